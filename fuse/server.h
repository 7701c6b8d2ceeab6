// Server: what stands behind the callbacks of one libfuse session: the tree, the counters, the
// error log, and the reads that wait for the fetcher.
//
// Promises
//   * It is the user data of its session (fuse/ops.h), and no request outlives close().
// Threads: all methods from any thread; close() once, when no callback runs any more.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <unordered_set>

#include "common/mutex.h"
#include "fuse/image_fs.h"
#include "fuse/rate_limit.h"
#include "fuse/session.h"

namespace imsy::fuse {

class WaitingRead;

class Server {
 public:
  explicit Server(ImageFs& fs) : fs_(fs) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  ImageFs& fs() { return fs_; }
  SessionStats stats() const;

  void count_request() { requests_.fetch_add(1, std::memory_order_relaxed); }
  void count_read(std::uint64_t bytes) {
    reads_.fetch_add(1, std::memory_order_relaxed);
    read_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  }
  // Counts a request on `node` that was answered with EIO, and logs it unless too many were.
  void report_eio(NodeId node, const Error& error);

  // The reads without an answer.
  void enter(const std::shared_ptr<WaitingRead>& read);
  void leave(const std::shared_ptr<WaitingRead>& read);
  // Ends all waiting reads with EIO and waits until the last reply is written. Never waits for the
  // fetcher: its callbacks may come later and find nothing to do.
  void close();

 private:
  // constant after construction
  ImageFs& fs_;

  // synchronises itself
  std::atomic<std::uint64_t> requests_{0};
  std::atomic<std::uint64_t> reads_{0};
  std::atomic<std::uint64_t> read_bytes_{0};
  std::atomic<std::uint64_t> eio_{0};
  RateLimit log_limit_{20, std::chrono::seconds(1)};

  mutable Mutex mu_;
  CondVar left_;
  std::unordered_set<std::shared_ptr<WaitingRead>> waiting_ IMSY_GUARDED_BY(mu_);
};

}  // namespace imsy::fuse
