#include "oci/health.h"

#include <gtest/gtest.h>

namespace imsy::oci {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

const HostHealth::Time kStart = HostHealth::Time() + seconds(1000);

TEST(HostHealth, AFewFailuresAreNoReason) {
  HostHealth health;
  for (int i = 0; i < 4; ++i) health.failed(kStart);
  EXPECT_TRUE(health.admit(kStart));
  health.succeeded();
  for (int i = 0; i < 4; ++i) health.failed(kStart);
  EXPECT_TRUE(health.admit(kStart));
  health.failed(kStart);
  EXPECT_FALSE(health.admit(kStart));
}

TEST(HostHealth, HalfOfTheLatestAnswersAreReasonEnough) {
  HostHealth health;
  for (int i = 0; i < 100; ++i) health.succeeded();
  for (int i = 0; i < 9; ++i) {
    health.failed(kStart);
    health.succeeded();
  }
  EXPECT_TRUE(health.admit(kStart));
  health.failed(kStart);
  EXPECT_FALSE(health.admit(kStart));
}

TEST(HostHealth, OneProbeAtATimeIsLetThrough) {
  HostHealth health;
  for (int i = 0; i < 5; ++i) health.failed(kStart);
  EXPECT_FALSE(health.admit(kStart + milliseconds(499)));
  const auto later = kStart + seconds(1);
  EXPECT_TRUE(health.admit(later));
  EXPECT_FALSE(health.admit(later + milliseconds(999)));
  EXPECT_TRUE(health.admit(later + seconds(1))) << "the first probe was never answered";
  health.succeeded();
  EXPECT_TRUE(health.admit(later + seconds(1)));
  health.failed(later + seconds(1));
  EXPECT_TRUE(health.admit(later + seconds(1))) << "what was before the success is forgotten";
}

TEST(HostHealth, PausesDoubleWithEveryProbeThatFails) {
  HostHealth health;
  auto now = kStart;
  for (int i = 0; i < 5; ++i) health.failed(now);
  for (const int longest : {1, 2, 4, 8, 8}) {
    // Requests from before come back meanwhile, and change nothing.
    for (int i = 0; i < 20; ++i) health.failed(now);
    EXPECT_FALSE(health.admit(now + milliseconds(longest * 500 - 1))) << longest;
    EXPECT_GE(health.usable_at(), now + milliseconds(longest * 500)) << longest;
    EXPECT_LE(health.usable_at(), now + seconds(longest)) << longest;
    now += seconds(longest);
    EXPECT_TRUE(health.admit(now)) << longest;
    health.failed(now);
  }
}

TEST(HostHealth, IsLeftAloneAsLongAsItWants) {
  HostHealth health;
  health.hold_until(kStart + seconds(5));
  health.hold_until(kStart + seconds(3));
  EXPECT_EQ(health.not_before(), kStart + seconds(5));
  EXPECT_EQ(health.usable_at(), kStart + seconds(5));
  EXPECT_FALSE(health.admit(kStart + milliseconds(4999)));
  EXPECT_TRUE(health.admit(kStart + seconds(5)));
}

TEST(HostHealth, RoundTripsAreSmoothed) {
  HostHealth health;
  EXPECT_FALSE(health.cost().round_trip);
  health.measured_round_trip(microseconds(8000));
  EXPECT_EQ(health.cost().round_trip, microseconds(8000));
  health.measured_round_trip(microseconds(16'000));
  EXPECT_EQ(health.cost().round_trip, microseconds(9000));
}

TEST(HostHealth, BandwidthIsThatOfAllTransfersTogether) {
  HostHealth health;
  health.body_began(kStart);
  health.body_ended(kStart + milliseconds(49), 1 << 20);
  EXPECT_FALSE(health.cost().bandwidth) << "too short to say anything";
  // The time in which nothing was on its way does not count; what came at once counts once.
  const auto later = kStart + seconds(100);
  health.body_began(later);
  health.body_began(later + milliseconds(10));
  health.body_ended(later + milliseconds(31), 1 << 20);
  EXPECT_EQ(health.cost().bandwidth, (2u << 20) * 1000 / 80);
  health.body_ended(later + milliseconds(51), 1 << 20);
  health.body_began(later + seconds(1));
  health.body_ended(later + seconds(2), 0);
  const double second = (1 << 20) / 1.02;
  EXPECT_NEAR(static_cast<double>(*health.cost().bandwidth), ((2 << 20) / 0.08 * 3 + second) / 4,
              10);
}

}  // namespace
}  // namespace imsy::oci
