#include "cas/work_queue.h"

#include <string>
#include <utility>

#include "common/thread_pool.h"

namespace imsy::cas {

WorkQueue::WorkQueue(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) {
    threads_.emplace_back([this, i] {
      name_this_thread("fetch-" + std::to_string(i));
      work();
    });
  }
  threads_.emplace_back([this] {
    name_this_thread("fetch-clock");
    tick();
  });
}

WorkQueue::~WorkQueue() {
  stop();
}

void WorkQueue::submit(Urgency urgency, Task task) {
  {
    MutexLock lock(mu_);
    if (stopping_) return;
    (urgency == Urgency::kDemand ? demand_ : background_).push_back(std::move(task));
  }
  changed_.notify_one();
}

std::uint64_t WorkQueue::at(Clock::time_point when, Task task) {
  std::uint64_t number = 0;
  {
    MutexLock lock(mu_);
    number = next_number_++;
    if (stopping_) return number;
    timed_.emplace(std::pair(when, number), std::move(task));
    times_.emplace(number, when);
  }
  clock_changed_.notify_one();
  return number;
}

void WorkQueue::forget(std::uint64_t number) {
  Task dropped;  // destroyed without the lock
  MutexLock lock(mu_);
  const auto found = times_.find(number);
  if (found == times_.end()) return;
  const auto task = timed_.find(std::pair(found->second, number));
  dropped = std::move(task->second);
  timed_.erase(task);
  times_.erase(found);
}

void WorkQueue::stop() {
  {
    std::deque<Task> dropped_demand;  // all are destroyed without the lock
    std::deque<Task> dropped_background;
    decltype(timed_) dropped_timed;
    MutexLock lock(mu_);
    stopping_ = true;
    dropped_demand.swap(demand_);
    dropped_background.swap(background_);
    dropped_timed.swap(timed_);
    times_.clear();
  }
  changed_.notify_all();
  clock_changed_.notify_all();
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void WorkQueue::work() {
  for (;;) {
    Task task;
    {
      MutexLock lock(mu_);
      while (demand_.empty() && background_.empty() && !stopping_) changed_.wait(mu_);
      if (stopping_) return;
      auto& queue = demand_.empty() ? background_ : demand_;
      task = std::move(queue.front());
      queue.pop_front();
    }
    task();
  }
}

void WorkQueue::tick() {
  for (;;) {
    Task task;
    {
      MutexLock lock(mu_);
      for (;;) {
        if (stopping_) return;
        if (timed_.empty()) {
          clock_changed_.wait(mu_);
        } else if (const auto first = timed_.begin(); first->first.first > Clock::now()) {
          const auto when = first->first.first;
          clock_changed_.wait_until(mu_, when);
        } else {
          task = std::move(first->second);
          times_.erase(first->first.second);
          timed_.erase(first);
          break;
        }
      }
    }
    task();
  }
}

}  // namespace imsy::cas
