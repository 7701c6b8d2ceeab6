#include "common/thread_pool.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

namespace imsy {

void name_this_thread(const std::string& name) {
  ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
}

ThreadPool::ThreadPool(const std::string& name, unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) {
    threads_.emplace_back([this, name = name + "-" + std::to_string(i)] { run(name); });
  }
}

ThreadPool::~ThreadPool() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  work_.notify_all();
}

void ThreadPool::submit(std::function<void()> task) {
  {
    MutexLock lock(mu_);
    queue_.push_back(std::move(task));
  }
  work_.notify_one();
}

std::size_t ThreadPool::queued() const {
  MutexLock lock(mu_);
  return queue_.size();
}

void ThreadPool::run(const std::string& name) {
  name_this_thread(name);
  for (;;) {
    std::function<void()> task;
    {
      MutexLock lock(mu_);
      while (queue_.empty() && !stopping_) work_.wait(mu_);
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

void yield_disk_to_others() {
  constexpr int kThread = 1;  // IOPRIO_WHO_PROCESS
  constexpr int kIdle = 3 << 13;
  // A kernel that does not know it does without.
  ::syscall(SYS_ioprio_set, kThread, 0, kIdle);
}

}  // namespace imsy
