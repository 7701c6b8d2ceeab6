#include "common/http/range.h"

#include <gtest/gtest.h>

namespace imsy::http {
namespace {

using Kind = RangeAnswer::Kind;

struct Case {
  const char* field;
  std::uint64_t size;
  Kind kind;
  std::uint64_t offset;
  std::uint64_t length;
};

class RangeTest : public ::testing::TestWithParam<Case> {};

TEST_P(RangeTest, Answers) {
  const Case& c = GetParam();
  const RangeAnswer answer = answer_range(c.field, c.size);
  EXPECT_EQ(static_cast<int>(answer.kind), static_cast<int>(c.kind)) << c.field;
  EXPECT_EQ(answer.offset, c.offset) << c.field;
  EXPECT_EQ(answer.length, c.length) << c.field;
}

INSTANTIATE_TEST_SUITE_P(
    Satisfiable, RangeTest,
    ::testing::Values(
        Case{"bytes=0-0", 10, Kind::kPart, 0, 1}, Case{"bytes=2-5", 10, Kind::kPart, 2, 4},
        Case{"bytes=2-", 10, Kind::kPart, 2, 8}, Case{"bytes=9-", 10, Kind::kPart, 9, 1},
        Case{"bytes=-3", 10, Kind::kPart, 7, 3}, Case{"bytes=-30", 10, Kind::kPart, 0, 10},
        Case{"bytes=0-9", 10, Kind::kPart, 0, 10}, Case{"bytes=4-99", 10, Kind::kPart, 4, 6},
        Case{" Bytes=4-99\t", 10, Kind::kPart, 4, 6},
        Case{"bytes=4-99999999999999999999", 10, Kind::kPart, 4, 6},
        Case{"bytes=-99999999999999999999", 10, Kind::kPart, 0, 10}));

INSTANTIATE_TEST_SUITE_P(Unsatisfiable, RangeTest,
                         ::testing::Values(Case{"bytes=10-", 10, Kind::kUnsatisfiable, 0, 0},
                                           Case{"bytes=10-11", 10, Kind::kUnsatisfiable, 0, 0},
                                           Case{"bytes=-0", 10, Kind::kUnsatisfiable, 0, 0},
                                           Case{"bytes=0-0", 0, Kind::kUnsatisfiable, 0, 0},
                                           Case{"bytes=-5", 0, Kind::kUnsatisfiable, 0, 0},
                                           Case{"bytes=99999999999999999999-", 10,
                                                Kind::kUnsatisfiable, 0, 0}));

// Ignoring is what the standard wants for a unit we do not know, and allows for the rest.
INSTANTIATE_TEST_SUITE_P(
    Ignored, RangeTest,
    ::testing::Values(
        Case{"", 10, Kind::kWhole, 0, 10}, Case{"bytes", 10, Kind::kWhole, 0, 10},
        Case{"bytes=", 10, Kind::kWhole, 0, 10}, Case{"bytes=-", 10, Kind::kWhole, 0, 10},
        Case{"bytes=5", 10, Kind::kWhole, 0, 10}, Case{"bytes=5-2", 10, Kind::kWhole, 0, 10},
        Case{"bytes=0-1,4-5", 10, Kind::kWhole, 0, 10},
        Case{"bytes=0-1, 4-5", 10, Kind::kWhole, 0, 10},
        Case{"bytes=0 - 1", 10, Kind::kWhole, 0, 10}, Case{"bytes=+0-1", 10, Kind::kWhole, 0, 10},
        Case{"bytes=0x1-2", 10, Kind::kWhole, 0, 10}, Case{"bytes=--1", 10, Kind::kWhole, 0, 10},
        Case{"bytes =0-1", 10, Kind::kWhole, 0, 10}, Case{"lines=0-1", 10, Kind::kWhole, 0, 10},
        Case{"=0-1", 10, Kind::kWhole, 0, 10}));

}  // namespace
}  // namespace imsy::http
