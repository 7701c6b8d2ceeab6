#include "cli/seed/prepare.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "cli/seed/list.h"
#include "cli/seed/rabin.h"
#include "common/mutex.h"
#include "common/thread_pool.h"

namespace imsy::cli::seed {
namespace {

// Chunks on their way from the chunker to the disk, at most `limit` at a time, and the first error.
class InFlight {
 public:
  explicit InFlight(std::size_t limit) : limit_(limit) {}

  // Waits for a place. Fails when a chunk failed before.
  Status enter() {
    MutexLock lock(mu_);
    while (count_ == limit_) left_.wait(mu_);
    if (error_) return *error_;
    ++count_;
    return {};
  }
  void leave(const Status& outcome) {
    MutexLock lock(mu_);
    if (!outcome && !error_) error_ = outcome.error();
    --count_;
    left_.notify_all();
  }
  // Waits until all have left.
  Status finish() {
    MutexLock lock(mu_);
    while (count_ != 0) left_.wait(mu_);
    return error_ ? Status(*error_) : Status();
  }

 private:
  const std::size_t limit_;
  Mutex mu_;
  CondVar left_;
  std::size_t count_ IMSY_GUARDED_BY(mu_) = 0;
  std::optional<Error> error_ IMSY_GUARDED_BY(mu_);
};

Status store_chunks(ByteReader& in, const Directory& directory, std::deque<Digest>& digests) {
  // One thread cuts at 1.2 GB/s; more than four that hash and write would only wait for it.
  const unsigned workers = std::clamp(std::thread::hardware_concurrency(), 1u, 4u);
  InFlight in_flight(workers + 2);
  RabinChunker chunker(in);
  ThreadPool pool("prepare", workers);  // last, so that its tasks end before what they use
  for (;;) {
    IMSY_TRY_ASSIGN(const ByteSpan chunk, chunker.next());
    if (chunk.empty()) return in_flight.finish();
    if ((digests.size() + 1) * kListLineSize > kListSizeMax) {
      return Error(Errc::kInvalid, "the input has more than " + std::to_string(digests.size()) +
                                       " chunks; split it and prepare the parts");
    }
    IMSY_TRY(in_flight.enter());
    // A deque does not move its elements when it grows, so the task may keep the reference.
    Digest& digest = digests.emplace_back();
    pool.submit([&in_flight, &directory, &digest, data = Bytes(chunk.begin(), chunk.end())] {
      digest = sha256(data);
      in_flight.leave(directory.store(digest, data));
    });
  }
}

}  // namespace

Result<Digest> prepare(ByteReader& in, const Directory& directory) {
  std::deque<Digest> digests;
  IMSY_TRY(store_chunks(in, directory, digests));
  const std::string list = format_list(digests);
  const Digest digest = sha256(list);
  IMSY_TRY(directory.store(digest, as_bytes(list)));
  IMSY_TRY(directory.sync());
  return digest;
}

}  // namespace imsy::cli::seed
