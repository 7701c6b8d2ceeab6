// Mutex, MutexLock, CondVar: the standard ones with clang's thread-safety attributes, so that the
// clang build proves which lock guards what. Lock order: docs/locks.md.
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define IMSY_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define IMSY_THREAD_ATTRIBUTE(x)
#endif
#define IMSY_GUARDED_BY(x) IMSY_THREAD_ATTRIBUTE(guarded_by(x))
#define IMSY_REQUIRES(...) IMSY_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define IMSY_EXCLUDES(...) IMSY_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))

namespace imsy {

class IMSY_THREAD_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void lock() IMSY_THREAD_ATTRIBUTE(acquire_capability()) { mu_.lock(); }
  void unlock() IMSY_THREAD_ATTRIBUTE(release_capability()) { mu_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mu_;
};

class IMSY_THREAD_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mu) IMSY_THREAD_ATTRIBUTE(acquire_capability(mu)) : mu_(mu) {
    mu_.lock();
  }
  ~MutexLock() IMSY_THREAD_ATTRIBUTE(release_capability()) { mu_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mu_;
};

// Waits release and take back the mutex that the caller holds. Always wait in a loop on a
// condition.
class CondVar {
 public:
  void wait(Mutex& mu) IMSY_REQUIRES(mu) {
    std::unique_lock<std::mutex> held(mu.mu_, std::adopt_lock);
    cv_.wait(held);
    held.release();
  }
  // False when `deadline` (steady clock) passed.
  template <typename TimePoint>
  bool wait_until(Mutex& mu, const TimePoint& deadline) IMSY_REQUIRES(mu) {
    std::unique_lock<std::mutex> held(mu.mu_, std::adopt_lock);
    const bool in_time = cv_.wait_until(held, deadline) == std::cv_status::no_timeout;
    held.release();
    return in_time;
  }
  void notify_one() { cv_.notify_one(); }
  void notify_all() { cv_.notify_all(); }

 private:
  std::condition_variable cv_;
};

}  // namespace imsy
