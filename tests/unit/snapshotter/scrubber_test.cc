#include "snapshotter/scrubber.h"

#include <gtest/gtest.h>

namespace imsy::snapshotter {
namespace {

TEST(ScrubState, IsReadAsItWasWritten) {
  const ScrubState over{.begun = 1'700'000'000, .done = true, .at = {}};
  EXPECT_EQ(over.to_text(), "1700000000 done\n");
  EXPECT_EQ(ScrubState::parse(over.to_text()).begun, 1'700'000'000);
  EXPECT_TRUE(ScrubState::parse(over.to_text()).done);

  const cas::CheckPosition at{
      .part = cas::CheckPosition::Part::kImages, .at = sha256(std::string_view("x")), .number = 3};
  const ScrubState half = ScrubState::parse(ScrubState{5, false, at}.to_text());
  EXPECT_EQ(half.begun, 5);
  EXPECT_FALSE(half.done);
  EXPECT_EQ(half.at.to_text(), at.to_text());
}

TEST(ScrubState, AnythingElseBeginsAnew) {
  for (const char* text : {"", "\n", "done\n", "5 done", "5 nowhere\n", "x done\n", "5\n"}) {
    const ScrubState state = ScrubState::parse(text);
    EXPECT_EQ(state.begun, 0) << text;
    EXPECT_TRUE(state.done) << text;
  }
}

}  // namespace
}  // namespace imsy::snapshotter
