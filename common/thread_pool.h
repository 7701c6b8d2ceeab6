// ThreadPool: a fixed number of named threads and one queue of tasks.
//
// Promises
//   * Tasks start in the order they were submitted.
//   * The destructor runs every task that was submitted, then joins.
// Threads: submit() from any thread, also from a task.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/mutex.h"

namespace imsy {

class ThreadPool {
 public:
  // `name` (at most 11 characters) and a number name each thread for ps and gdb.
  ThreadPool(const std::string& name, unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Never waits. A task must not throw; one that does ends the process with a message.
  void submit(std::function<void()> task);
  // Tasks waiting to start.
  std::size_t queued() const;

 private:
  void run(const std::string& name);

  mutable Mutex mu_;
  CondVar work_;
  std::deque<std::function<void()>> queue_ IMSY_GUARDED_BY(mu_);
  bool stopping_ IMSY_GUARDED_BY(mu_) = false;
  std::vector<std::jthread> threads_;  // constant after construction
};

// Names the calling thread.
void name_this_thread(const std::string& name);
// From now on the disk serves the calling thread when nobody else wants it, as far as its scheduler
// knows that.
void yield_disk_to_others();

}  // namespace imsy
