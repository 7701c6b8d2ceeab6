#include "cli/seed/event_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace imsy::cli::seed {
namespace {

TEST(EventLog, WritesDateTimeAndText) {
  std::ostringstream out;
  EventLog(out).line("hits: 1");
  EXPECT_THAT(out.str(), ::testing::MatchesRegex("[0-9]{4}/[0-9]{2}/[0-9]{2} "
                                                 "[0-9]{2}:[0-9]{2}:[0-9]{2} hits: 1\n"));
}

TEST(EventLog, QuotesWhatCouldForgeALine) {
  EXPECT_EQ(quote("a b/~"), "\"a b/~\"");
  EXPECT_EQ(quote("a\"b\\"), R"("a\"b\\")");
  EXPECT_EQ(quote("a\nb\x1b\x7f\xff"), R"("a\x0ab\x1b\x7f\xff")");
  EXPECT_EQ(quote(std::string_view("\0", 1)), R"("\x00")");
}

}  // namespace
}  // namespace imsy::cli::seed
