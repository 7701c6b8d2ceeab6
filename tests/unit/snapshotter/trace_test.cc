#include "snapshotter/trace.h"

#include <gtest/gtest.h>

#include <set>

namespace imsy::snapshotter {
namespace {

constexpr const char* kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";

TEST(Trace, IsThatOfTheHeader) {
  const std::string header = std::string("00-") + kTrace + "-00f067aa0ba902b7-01";
  EXPECT_EQ(trace_of(header), kTrace);
  // Later versions may go on behind what this one has.
  EXPECT_EQ(trace_of("cc" + header.substr(2) + "-what-comes"), kTrace);
}

TEST(Trace, MalformedHeadersHaveNone) {
  const std::string parent = "-00f067aa0ba902b7-01";
  for (const std::string& header :
       {std::string(), std::string("00"), std::string("00-") + kTrace,
        "ff-" + std::string(kTrace) + parent, "00-" + std::string(kTrace) + parent + "-more",
        "00-" + std::string(kTrace) + parent + "0", "00-" + std::string(32, '0') + parent,
        "00-4BF92F3577B34DA6A3CE929D0E0E4736" + parent, "00_" + std::string(kTrace) + parent,
        std::string(55, 'a'), std::string(55, '-')}) {
    EXPECT_EQ(trace_of(header), "") << header;
  }
}

TEST(Trace, NewOnesDifferAndAreValid) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const std::string trace = new_trace();
    EXPECT_EQ(trace_of("00-" + trace + "-00f067aa0ba902b7-01"), trace);
    EXPECT_TRUE(seen.insert(trace).second);
  }
}

}  // namespace
}  // namespace imsy::snapshotter
