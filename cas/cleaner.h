// Cleaner: the only code that deletes content: objects that no image owns, those used longest ago
// first, and the trash.
//
//   objects/, partial/ --rename--> trash/ --a minute later--> gone
//           '----------------- at once, for want of room --------^
//
// Promises
//   * What an image owns, and what is open, stays. An object is given up in one step under the
//     index's write lock, so that no image can become its owner meanwhile.
//   * With limits, a thread looks every ten seconds whether they are kept, and gives up as much as
//     lacks. What is given up that way can still be read by who is about to open its file.
//   * Nothing has to be written before room is made, so that it also works on a full disk.
// Threads: all methods from any thread; they may wait for the disk. One collection at a time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>

#include "cas/index.h"
#include "cas/layout.h"
#include "cas/store.h"
#include "common/mutex.h"

namespace imsy::cas {

class Cleaner {
 public:
  // Gives the object up unless it is open or owned. True: done.
  using Discard = std::function<Result<bool>(const cdc::ObjectId&, Layout::Discard)>;

  // Layout and index outlive it. Empties the trash that an earlier process has left.
  Cleaner(const Layout& layout, Index& index, const StoreOptions& limits, Discard discard);
  ~Cleaner();
  Cleaner(const Cleaner&) = delete;
  Cleaner& operator=(const Cleaner&) = delete;

  // Deletes everything that no image owns, and the trash.
  Result<Collected> collect_all();
  // How often room was made.
  std::uint64_t rooms_made() const { return rooms_made_; }
  // Somebody found no room for so many bytes, and began when rooms_made() was `before`. True: there
  // is more now. When there was nothing to give up it is not looked for again within a second.
  bool make_room(std::uint64_t bytes, std::uint64_t before);
  // What the thread does, now.
  Status keep_limits();

 private:
  using Clock = std::chrono::steady_clock;
  // What is to be freed: so many bytes, and so many files.
  struct Need {
    std::uint64_t bytes = 0;
    std::uint64_t files = 0;
  };

  void run();
  Result<Need> lacking() IMSY_REQUIRES(mu_);
  Result<Collected> discard_objects(const Need& need, Layout::Discard how) IMSY_REQUIRES(mu_);
  Status sweep() IMSY_REQUIRES(mu_);
  Status empty_trash() IMSY_REQUIRES(mu_);

  const Layout& layout_;
  Index& index_;
  const StoreOptions limits_;
  const Discard discard_;
  std::atomic<std::uint64_t> rooms_made_{0};  // changes under mu_

  Mutex mu_;  // held while objects are deleted
  Collected trash_ IMSY_GUARDED_BY(mu_);
  Clock::time_point trash_since_ IMSY_GUARDED_BY(mu_);  // when the last one was moved there
  bool stale_ IMSY_GUARDED_BY(mu_) = false;  // the index has hints of objects that are gone
  Clock::time_point next_sweep_ IMSY_GUARDED_BY(mu_) = Clock::time_point::min();
  Clock::time_point try_again_ IMSY_GUARDED_BY(mu_) = Clock::time_point::min();

  Mutex stop_mu_;
  CondVar stop_;
  bool stopping_ IMSY_GUARDED_BY(stop_mu_) = false;
  std::thread thread_;  // none without limits
};

}  // namespace imsy::cas
