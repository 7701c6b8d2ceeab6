#include "common/log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

namespace imsy {
namespace {

TEST(LogTest, KnowsItsLevels) {
  for (const char* level : {"trace", "debug", "info", "warn", "error"}) {
    EXPECT_TRUE(log::configure(level)) << level;
  }
  for (const char* level : {"", "loud", "INFO", "warnings"}) {
    const auto configured = log::configure(level);
    ASSERT_FALSE(configured) << level;
    EXPECT_EQ(configured.error().code(), Errc::kInvalid);
  }
}

TEST(LogTest, OneEventIsOneLineOnStderr) {
  ::testing::internal::CaptureStderr();
  ASSERT_TRUE(log::configure("info"));
  log::debug("not {}", "shown");
  log::info("fetched chunk={} size={}", "abc", 7);
  log::error("registry says {}", "no\n2026-01-01 info forged\x1b[31m");
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find("shown"), std::string::npos);
  EXPECT_NE(text.find("info fetched chunk=abc size=7\n"), std::string::npos) << text;
  EXPECT_NE(text.find("error registry says no\\x0a2026-01-01 info forged\\x1b[31m\n"),
            std::string::npos)
      << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(LogTest, FieldsEndTheLinesOfTheirThread) {
  ::testing::internal::CaptureStderr();
  ASSERT_TRUE(log::configure("info"));
  {
    const log::Field image("image", "sha256:ab");
    const log::Field none("none", "");
    {
      const log::Field key("snapshot", "a b\"c\n");
      log::info("inside");
    }
    std::jthread([] { log::info("other"); }).join();
    log::info("behind");
  }
  log::info("outside");
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(text.find("inside image=sha256:ab snapshot=\"a b\\\"c\\x0a\"\n"), std::string::npos)
      << text;
  EXPECT_NE(text.find("other\n"), std::string::npos) << text;
  EXPECT_NE(text.find("behind image=sha256:ab\n"), std::string::npos) << text;
  EXPECT_NE(text.find("outside\n"), std::string::npos) << text;
}

TEST(LogTest, PrintableKeepsTextThatIsHarmless) {
  EXPECT_EQ(log::printable("plain \xc3\xa4 text"), "plain \xc3\xa4 text");
  EXPECT_EQ(log::printable(std::string("a\0b\x7f", 4)), "a\\x00b\\x7f");
}

}  // namespace
}  // namespace imsy
