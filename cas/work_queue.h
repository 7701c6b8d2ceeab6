// WorkQueue: threads that do urgent tasks before others, and a clock that runs tasks later.
// Internal to cas.
//
// Threads: all methods from any thread; stop() and the destructor not from a task.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <thread>
#include <vector>

#include "common/mutex.h"

namespace imsy::cas {

enum class Urgency { kDemand, kBackground };

class WorkQueue {
 public:
  using Task = std::function<void()>;
  using Clock = std::chrono::steady_clock;

  explicit WorkQueue(unsigned threads);
  ~WorkQueue();

  // Never waits. After stop() tasks are dropped.
  void submit(Urgency urgency, Task task);
  // Runs `task` at `when`, on the clock's thread: it must not wait. Returns a number for forget().
  std::uint64_t at(Clock::time_point when, Task task);
  void forget(std::uint64_t number);
  // Drops what has not started and waits for what has.
  void stop();

 private:
  void work();
  void tick();

  Mutex mu_;
  CondVar changed_;
  CondVar clock_changed_;
  std::deque<Task> demand_ IMSY_GUARDED_BY(mu_);
  std::deque<Task> background_ IMSY_GUARDED_BY(mu_);
  std::map<std::pair<Clock::time_point, std::uint64_t>, Task> timed_ IMSY_GUARDED_BY(mu_);
  std::map<std::uint64_t, Clock::time_point> times_ IMSY_GUARDED_BY(mu_);
  std::uint64_t next_number_ IMSY_GUARDED_BY(mu_) = 1;
  bool stopping_ IMSY_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;  // last: they use all of the above
};

}  // namespace imsy::cas
