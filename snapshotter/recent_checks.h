// RecentChecks: what was found to be allowed a moment ago, so that it is not asked again for each
// layer of a pull.
//
// Threads: all methods from any thread; none waits.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <string>

#include "common/mutex.h"

namespace imsy::snapshotter {

class RecentChecks {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kMoment{60};
  static constexpr std::size_t kMax = 1'024;

  explicit RecentChecks(std::function<Clock::time_point()> now = &Clock::now)
      : now_(std::move(now)) {}

  void note(const std::string& name) {
    const auto now = now_();
    const MutexLock lock(mu_);
    std::erase_if(until_, [now](const auto& entry) { return entry.second <= now; });
    if (until_.size() >= kMax) until_.clear();
    until_[name] = now + kMoment;
  }
  bool has(const std::string& name) const {
    const auto now = now_();
    const MutexLock lock(mu_);
    const auto found = until_.find(name);
    return found != until_.end() && now < found->second;
  }

 private:
  const std::function<Clock::time_point()> now_;
  mutable Mutex mu_;
  std::map<std::string, Clock::time_point> until_ IMSY_GUARDED_BY(mu_);
};

}  // namespace imsy::snapshotter
