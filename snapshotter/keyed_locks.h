// KeyedLocks: one lock per digest, for work on one image that waits for disk or network.
//
// Threads: lock() from any thread. A lock may be released by another thread than took it. The
//   owner outlives all locks. Lock order: docs/locks.md.
#pragma once

#include <chrono>
#include <set>
#include <utility>

#include "common/digest.h"
#include "common/mutex.h"
#include "common/result.h"

namespace imsy::snapshotter {

class KeyedLocks {
 public:
  class Held {
   public:
    Held(Held&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), key_(other.key_) {}
    Held& operator=(Held&&) = delete;
    ~Held() {
      if (owner_ != nullptr) owner_->unlock(key_);
    }

   private:
    friend class KeyedLocks;
    Held(KeyedLocks* owner, const Digest& key) : owner_(owner), key_(key) {}
    KeyedLocks* owner_;
    Digest key_;
  };

  // kTimeout when another holds it until `deadline`; kCancelled once stop() was called.
  Result<Held> lock(const Digest& key, std::chrono::steady_clock::time_point deadline) {
    MutexLock held(mu_);
    while (!stopped_ && held_.contains(key)) {
      if (!released_.wait_until(mu_, deadline) && !stopped_ && held_.contains(key)) {
        return Error(Errc::kTimeout, "another call works on the same image");
      }
    }
    if (stopped_) return Error(Errc::kCancelled, "imsy-snapshotter is stopping");
    held_.insert(key);
    return Held(this, key);
  }

  // Whoever waits, now or later, gets kCancelled.
  void stop() {
    MutexLock held(mu_);
    stopped_ = true;
    released_.notify_all();
  }

 private:
  void unlock(const Digest& key) {
    MutexLock held(mu_);
    held_.erase(key);
    released_.notify_all();
  }

  Mutex mu_;
  CondVar released_;
  std::set<Digest> held_ IMSY_GUARDED_BY(mu_);
  bool stopped_ IMSY_GUARDED_BY(mu_) = false;
};

}  // namespace imsy::snapshotter
