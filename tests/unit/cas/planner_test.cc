// How long a request is, and what it takes along.
#include "cas/planner.h"

#include <gtest/gtest.h>

#include <chrono>

namespace imsy::cas {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr std::uint64_t kKiB = 1u << 10;
constexpr std::uint64_t kMiB = 1u << 20;
const PlanLimits kMost;

TEST(PlanLimitsTest, AreTheLargestAsLongAsNothingWasMeasured) {
  const PlanLimits demand = limits_for_demand({}, kMost);
  EXPECT_EQ(demand.gap, 64 * kKiB);
  EXPECT_EQ(demand.demand_run, kMiB);
  EXPECT_EQ(limits_for_fill({}, kMost, false, 0).fill_run, 8 * kMiB);
  EXPECT_EQ(limits_for_fill({}, kMost, true, 0).fill_run, 4 * kMiB);
}

TEST(PlanLimitsTest, AGapCostsAQuarterOfARoundTrip) {
  EXPECT_EQ(limits_for_demand({milliseconds(10), 16'000'000}, kMost).gap, 40'000u);
  EXPECT_EQ(limits_for_demand({milliseconds(1), 1'000'000}, kMost).gap, 16 * kKiB);
  EXPECT_EQ(limits_for_demand({milliseconds(200), 1'000'000'000}, kMost).gap, 64 * kKiB);
  EXPECT_EQ(limits_for_demand({milliseconds(1), std::nullopt}, kMost).gap, 64 * kKiB);
}

TEST(PlanLimitsTest, ARequestOfAReaderTakesFiftyMilliseconds) {
  EXPECT_EQ(limits_for_demand({std::nullopt, 10'000'000}, kMost).demand_run, 500'000u);
  EXPECT_EQ(limits_for_demand({std::nullopt, 100'000}, kMost).demand_run, 256 * kKiB);
  EXPECT_EQ(limits_for_demand({std::nullopt, 1'000'000'000}, kMost).demand_run, kMiB);
}

TEST(PlanLimitsTest, AFillBesideReadersTakesAQuarterOfASecond) {
  const Cost cost{milliseconds(10), 10'000'000};
  EXPECT_EQ(limits_for_fill(cost, kMost, true, 0).fill_run, 2'500'000u);
  EXPECT_EQ(limits_for_fill(cost, kMost, false, 0).fill_run, 8 * kMiB);
  EXPECT_EQ(limits_for_fill({milliseconds(10), 1'000}, kMost, true, 0).fill_run, kMiB);
}

TEST(PlanLimitsTest, ALimitedFillTakesASecond) {
  EXPECT_EQ(limits_for_fill({}, kMost, false, 2'000'000).fill_run, 2'000'000u);
  EXPECT_EQ(limits_for_fill({}, kMost, false, 10).fill_run, 256 * kKiB);
  EXPECT_EQ(limits_for_fill({}, kMost, false, 1'000'000'000).fill_run, 8 * kMiB);
}

TEST(PlanLimitsTest, HoldWhateverWasMeasured) {
  for (const auto round_trip : {microseconds(0), microseconds(1), microseconds::max()}) {
    for (const std::uint64_t bandwidth : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}}) {
      const Cost cost{round_trip, bandwidth};
      const PlanLimits demand = limits_for_demand(cost, kMost);
      const PlanLimits fill = limits_for_fill(cost, kMost, true, 0);
      EXPECT_TRUE(demand.gap >= 16 * kKiB && demand.gap <= kMost.gap);
      EXPECT_TRUE(demand.demand_run >= 256 * kKiB && demand.demand_run <= kMost.demand_run);
      EXPECT_TRUE(fill.fill_run >= kMiB && fill.fill_run <= 4 * kMiB);
    }
  }
}

TEST(TakesWhole, WhereNextToNothingIsLeftOut) {
  EXPECT_TRUE(takes_whole(0, 1'000, 1'000, 0));
  EXPECT_TRUE(takes_whole(10, 990, 1'000, 20));
  EXPECT_FALSE(takes_whole(10, 990, 1'000, 19));
  EXPECT_FALSE(takes_whole(100, 1'000, 1'000, 500)) << "a tenth of it";
  EXPECT_FALSE(takes_whole(0, 2'000, 1'000, 100)) << "a manifest and an anchor that disagree";
}

}  // namespace
}  // namespace imsy::cas
