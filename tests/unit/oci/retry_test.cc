#include "oci/retry.h"

#include <gtest/gtest.h>

namespace imsy::oci {
namespace {

using std::chrono::milliseconds;

TEST(Retry, ReadsRetryAfter) {
  constexpr std::int64_t kNow = 784111777;  // Sun, 06 Nov 1994 08:49:37 GMT
  struct Case {
    const char* header;
    int seconds;
  };
  const Case cases[] = {
      {"0", 0},
      {"7", 7},
      {"30", 30},
      {"31", 30},
      {"1000000000", 30},
      {"99999999999999999999999", 30},
      {"-1", 0},
      {"-99999999999999999999999", 0},
      {"", 0},
      {"soon", 0},
      {"5 apples", 0},
      {"Sun, 06 Nov 1994 08:49:47 GMT", 10},
      {"Sunday, 06-Nov-94 08:49:47 GMT", 10},
      {"Sun Nov  6 08:49:47 1994", 10},
      {"Sun, 06 Nov 1994 08:49:27 GMT", 0},
      {"Fri, 31 Dec 9999 23:59:59 GMT", 30},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(retry_after(one.header, kNow), milliseconds(one.seconds * 1000)) << one.header;
  }
  EXPECT_EQ(retry_after(std::string(100'000, '9'), kNow), milliseconds(0));
}

TEST(Retry, DelaysDoubleUpToALimit) {
  Backoff backoff(milliseconds(200));
  for (int round = 0; round < 100; ++round) {
    for (unsigned retry = 1; retry <= 5; ++retry) {
      const milliseconds whole(100 << retry);
      const milliseconds delay = backoff.delay(retry);
      EXPECT_LE(delay, whole);
      EXPECT_GE(delay, whole / 2);
    }
    EXPECT_LE(backoff.delay(1000), kRetryDelayMax);
  }
}

TEST(Retry, KnowsWhatMayGetBetter) {
  for (const int status : {429, 502, 503, 504}) EXPECT_TRUE(is_busy(status)) << status;
  for (const int status : {200, 400, 401, 403, 404, 408, 500, 501, 505}) {
    EXPECT_FALSE(is_busy(status)) << status;
  }
  EXPECT_TRUE(is_transient(Errc::kUnavailable));
  EXPECT_TRUE(is_transient(Errc::kTimeout));
  EXPECT_FALSE(is_transient(Errc::kDenied));
  EXPECT_FALSE(is_transient(Errc::kCorrupt));
  EXPECT_FALSE(is_transient(Errc::kCancelled));
}

}  // namespace
}  // namespace imsy::oci
