// When to ask a server again, and after how long.
//
// Source: RFC 9110, 10.2.3 (Retry-After).
// Threads: plain values and free functions; a Backoff belongs to one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>
#include <string_view>

#include "common/result.h"

namespace imsy::oci {

inline constexpr unsigned kRetriesMax = 5;
inline constexpr std::chrono::milliseconds kRetryDelayMax{30'000};

// Statuses with which a server says "not now".
bool is_busy(int status);
// Errors after which another try may succeed: the connection broke, or nothing came.
bool is_transient(Errc code);

// The delay that a Retry-After header asks for: seconds, or a date, which is compared with
// `unix_now`. Clamped to kRetryDelayMax; zero for a past date, a negative number and nonsense.
std::chrono::milliseconds retry_after(std::string_view header, std::int64_t unix_now);

// Delays that double with each retry. Half of each is random, so that many clients that failed
// together do not come back together.
class Backoff {
 public:
  explicit Backoff(std::chrono::milliseconds first)
      : first_(first), random_(std::random_device{}()) {}
  // Before retry number `retry`, counted from 1.
  std::chrono::milliseconds delay(unsigned retry);

 private:
  std::chrono::milliseconds first_;
  std::minstd_rand random_;
};

}  // namespace imsy::oci
