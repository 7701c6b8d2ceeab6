// Cleaner: the only code that deletes content, in this order: the trash; objects that no image
// owns, incomplete ones first, then those used longest ago; those that only shrunk images own,
// likewise; then it shrinks the image that was used longest ago and goes on with its objects.
//
//   objects/, partial/ --rename--> trash/ --a minute later--> gone
//           '----------------- at once, for want of room --------^
//
// Promises
//   * What an image wants, and what is open, stays. An object is given up in one step under the
//     index's write lock, so that no image can begin to want it meanwhile.
//   * With limits, a thread looks every ten seconds whether they are kept, and gives up as much as
//     lacks. What is given up that way can still be read by who is about to open its file. What was
//     put since the store was counted last is added up, so that it is counted again only when that
//     may be above the quota.
//   * Nothing has to be written before room is made, so that it also works on a full disk; only
//     shrinking an image needs a page of the index's log, for which may_write() leaves room.
// Threads: all methods from any thread; they may wait for the disk. One collection at a time.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <thread>

#include "cas/index.h"
#include "cas/layout.h"
#include "cas/store.h"
#include "common/mutex.h"

namespace imsy::cas {

// Gives up an object that is not open, unless an image wants it: its bytes as in Collected, or
// nullopt: it stays.
Result<std::optional<std::uint64_t>> discard_idle(const Layout& layout, Index& index,
                                                  const cdc::ObjectId& object, Layout::Discard how);

class Cleaner {
 public:
  // As discard_idle(), also for objects that may be open: they stay.
  using Discard =
      std::function<Result<std::optional<std::uint64_t>>(const cdc::ObjectId&, Layout::Discard)>;

  // Layout and index outlive it. Empties the trash that an earlier process has left.
  Cleaner(const Layout& layout, Index& index, const StoreOptions& limits, Discard discard);
  ~Cleaner();
  Cleaner(const Cleaner&) = delete;
  Cleaner& operator=(const Cleaner&) = delete;

  // As in Store.
  Result<Collected> collect(Store::Extent extent, std::uint64_t bytes);
  void set_closer(std::function<void()> close);
  // To be asked before so many bytes are put. kNoSpace: less than a quarter of the floor is free,
  // or without a floor so little that the index could not be written.
  Status may_write(std::uint64_t bytes);
  // So many bytes were put.
  void add_put(std::uint64_t bytes) { put_ += bytes; }
  // How often room was made.
  std::uint64_t rooms_made() const { return rooms_made_; }
  // Whether so much fits the limits when everything gives way that no image owns.
  Result<bool> has_room(const Collected& more);
  // Somebody found no room for so many bytes, and began when rooms_made() was `before`. True: there
  // is more now. When there was nothing to give up it is not looked for again within a second.
  bool make_room(std::uint64_t bytes, std::uint64_t before, Store::Extent extent);
  // Other limits, for what is put from now on; the thread sees to the rest.
  void set_limits(std::uint64_t quota_bytes, unsigned free_floor_percent);
  // What the thread does, now.
  Status keep_limits();

 private:
  using Clock = std::chrono::steady_clock;
  // What is to be freed: so many bytes, and so many files.
  struct Need {
    std::uint64_t bytes = 0;
    std::uint64_t files = 0;
    bool met_by(const Collected& done) const {
      return done.bytes >= bytes && done.objects >= files;
    }
  };

  void run();
  std::uint64_t reserved(std::uint64_t total, std::uint64_t least) const;
  Need lacking_for(std::uint64_t bytes) const;
  Result<Need> lacking() IMSY_REQUIRES(mu_);
  Status count() IMSY_REQUIRES(mu_);
  std::uint64_t used() const IMSY_REQUIRES(mu_);
  Result<Collected> free_up(const Need& need, Store::Extent extent, Layout::Discard how)
      IMSY_REQUIRES(mu_);
  Status discard_objects(Index::Idle which, const Need& need, Layout::Discard how, Collected& done)
      IMSY_REQUIRES(mu_);
  Result<std::size_t> discard_batch(const std::vector<Index::ObjectRow>& victims, const Need& need,
                                    Layout::Discard how, Collected& done) IMSY_REQUIRES(mu_);
  Status sweep() IMSY_REQUIRES(mu_);
  Status empty_trash() IMSY_REQUIRES(mu_);
  void close_idle();

  const Layout& layout_;
  Index& index_;
  std::atomic<std::uint64_t> quota_bytes_;
  std::atomic<unsigned> free_floor_percent_;
  const Discard discard_;
  std::atomic<std::uint64_t> rooms_made_{0};  // changes under mu_
  std::atomic<std::uint64_t> put_{0};         // bytes since the store was counted
  std::atomic<std::int64_t> allowance_{0};    // bytes that may be put before may_write() looks
  std::atomic<Clock::time_point> look_again_{Clock::time_point::min()};  // when it looks anyway

  Mutex mu_;                                                   // held while objects are deleted
  std::optional<std::uint64_t> counted_ IMSY_GUARDED_BY(mu_);  // bytes without the trash
  Collected trash_ IMSY_GUARDED_BY(mu_);
  Clock::time_point trash_since_ IMSY_GUARDED_BY(mu_);  // when the last one was moved there
  bool stale_ IMSY_GUARDED_BY(mu_) = false;  // the index has hints of objects that are gone
  Clock::time_point next_sweep_ IMSY_GUARDED_BY(mu_) = Clock::time_point::min();
  std::array<Clock::time_point, 3> try_again_ IMSY_GUARDED_BY(mu_);  // by extent

  Mutex closer_mu_;
  std::function<void()> closer_ IMSY_GUARDED_BY(closer_mu_);

  Mutex stop_mu_;
  CondVar stop_;
  bool stopping_ IMSY_GUARDED_BY(stop_mu_) = false;
  std::thread thread_;  // none without limits
};

}  // namespace imsy::cas
