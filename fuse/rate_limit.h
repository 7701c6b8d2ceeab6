// RateLimit: how many lines about one kind of trouble may be logged.
//
// A dead registry fails thousands of reads; the log keeps the first few and then one a second, each
// with the number of those left out before it.
// Threads: any.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <utility>

#include "common/mutex.h"

namespace imsy::fuse {

class RateLimit {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // At most `burst` at once, and one more every `interval`.
  RateLimit(unsigned burst, std::chrono::milliseconds interval)
      : burst_(burst), interval_(interval), left_(burst) {}

  // The number of refused events since the last admitted one; nullopt when this one is refused.
  std::optional<std::uint64_t> admit(TimePoint now = std::chrono::steady_clock::now()) {
    MutexLock lock(mu_);
    if (now > filled_) {
      const auto earned = (now - filled_) / interval_;
      left_ = static_cast<unsigned>(std::min<std::int64_t>(burst_, left_ + earned));
      filled_ = left_ == burst_ ? now : filled_ + earned * interval_;
    }
    if (left_ == 0) {
      ++refused_;
      return std::nullopt;
    }
    --left_;
    return std::exchange(refused_, 0);
  }

 private:
  const unsigned burst_;
  const std::chrono::milliseconds interval_;

  Mutex mu_;
  TimePoint filled_ IMSY_GUARDED_BY(mu_){};
  unsigned left_ IMSY_GUARDED_BY(mu_);
  std::uint64_t refused_ IMSY_GUARDED_BY(mu_) = 0;
};

}  // namespace imsy::fuse
