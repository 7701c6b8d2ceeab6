#include "fuse/rate_limit.h"

#include <gtest/gtest.h>

namespace imsy::fuse {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class RateLimitTest : public ::testing::Test {
 protected:
  RateLimit limit_{2, seconds(1)};
  RateLimit::TimePoint now_{std::chrono::hours(1)};
};

TEST_F(RateLimitTest, AdmitsABurstAndThenRefuses) {
  EXPECT_EQ(limit_.admit(now_), 0u);
  EXPECT_EQ(limit_.admit(now_), 0u);
  EXPECT_FALSE(limit_.admit(now_).has_value());
}

TEST_F(RateLimitTest, SaysHowManyItRefused) {
  for (int i = 0; i < 5; ++i) EXPECT_EQ(limit_.admit(now_).has_value(), i < 2);
  EXPECT_EQ(limit_.admit(now_ + seconds(1)), 3u);
}

TEST_F(RateLimitTest, EarnsOnePerInterval) {
  while (limit_.admit(now_)) {
  }
  EXPECT_FALSE(limit_.admit(now_ + milliseconds(999)));
  EXPECT_TRUE(limit_.admit(now_ + milliseconds(1000)));
  EXPECT_FALSE(limit_.admit(now_ + milliseconds(1999)));
  EXPECT_TRUE(limit_.admit(now_ + milliseconds(2000)));
}

TEST_F(RateLimitTest, SavesNoMoreThanTheBurst) {
  while (limit_.admit(now_)) {
  }
  const auto later = now_ + std::chrono::hours(24);
  EXPECT_TRUE(limit_.admit(later));
  EXPECT_TRUE(limit_.admit(later));
  EXPECT_FALSE(limit_.admit(later));
}

TEST_F(RateLimitTest, AClockThatStandsStillEarnsNothing) {
  while (limit_.admit(now_)) {
  }
  EXPECT_FALSE(limit_.admit(now_ - seconds(10)));
  EXPECT_FALSE(limit_.admit(now_));
}

}  // namespace
}  // namespace imsy::fuse
