// Fetcher: makes chunks present: from other objects in the store, or from the image's registry.
//
// Promises
//   * No call waits for the network. Callbacks run on the fetcher's threads, exactly once each.
//   * Equal work is joined by chunk digest: a chunk that is on its way, for whichever image, is not
//     fetched again. A reader that gives up does not fail the others.
//   * On-demand work goes before background work and does not queue behind it.
//   * Every chunk is verified before it is kept or given to anybody. Wrong bytes are fetched once
//     more, then the chunk fails with kCorrupt; failures are not remembered.
//   * When the store cannot keep a chunk (no space), the waiting reads are still answered.
//   * A wanted chunk that does not arrive within the deadline fails with kTimeout.
// Threads: all methods from any thread. docs/threads.md names the pools.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cas/blob_source.h"
#include "cas/store.h"

namespace imsy::cas {

struct FetcherOptions {
  unsigned workers = 2;                      // decode, hash, write
  unsigned demand_requests = 16;             // range requests in flight for readers, per image
  unsigned background_requests = 4;          // and for the background fill, all images together
  std::uint64_t demand_span = 1u << 20;      // stored bytes of one on-demand request, at most
  std::uint64_t background_span = 4u << 20;  // and of one background request
  // Neighbouring wanted frames are joined when the gap is at most this many stored bytes: about
  // what one round trip costs.
  std::uint64_t gap_max = 64u << 10;
  std::chrono::milliseconds deadline{60'000};
  // Pauses between attempts when a source fails: the first, doubled each time up to the longest one
  // (for readers; for the background fill).
  std::chrono::milliseconds retry_first{100};
  std::chrono::milliseconds retry_longest{2'000};
  std::chrono::milliseconds background_retry_longest{30'000};
};

struct FetchStats {
  std::uint64_t requests = 0;
  std::uint64_t bytes_fetched = 0;  // stored bytes received from sources
  std::uint64_t chunks_fetched = 0;
  std::uint64_t chunks_copied = 0;  // from other objects of the store
  std::uint64_t bytes_copied = 0;
  std::uint64_t chunks_corrupt = 0;  // received with a wrong digest
};

// An image whose content can be read. Made by Fetcher::attach; the last holder detaches it.
class Image {
 public:
  using ReadDone = std::function<void(Result<Bytes>)>;
  virtual ~Image() = default;

  virtual const std::shared_ptr<const cdc::Manifest>& manifest() const = 0;

  // Bytes [offset, offset+length) of `object`, cut at its end; at most 4 MiB at a time (kInvalid,
  // also for an object that the image does not have). When all of it is present, `done` runs before
  // this returns; otherwise later, on a thread of the fetcher. Returns a number to give to
  // cancel(), or 0 when done has run.
  virtual std::uint64_t read(std::uint32_t object, std::uint64_t offset, std::uint32_t length,
                             ReadDone done) = 0;
  // The reader gave up: `done` runs soon with kCancelled, unless it has run. What is in flight is
  // still kept for others.
  virtual void cancel(std::uint64_t read) = 0;

  // Starts to make the image resident in the background; idempotent. When it is, the store has
  // marked it so and `done` runs with success (also when it was already). Sources that fail are
  // tried again for ever, with back-off; detaching ends it with kCancelled.
  virtual void fill(std::function<void(Status)> done) = 0;

  virtual FetchStats stats() const = 0;
};

class Fetcher {
 public:
  static std::unique_ptr<Fetcher> create(Store& store, const FetcherOptions& options = {});
  // Waits for its threads, which may wait for the disk; open reads and fills end with kCancelled.
  // Images may outlive it and answer everything so. Sources may answer later, or never. Not from a
  // callback.
  virtual ~Fetcher() = default;

  // `source` is asked for blobs named in the anchor's data layers. It may be null until
  // set_source(): reads of present chunks work, others fail with kUnavailable.
  virtual std::shared_ptr<Image> attach(std::shared_ptr<const cdc::Manifest> manifest,
                                        const cdc::Anchor& anchor,
                                        std::shared_ptr<BlobSource> source,
                                        const std::string& trust_domain) = 0;
  virtual void set_source(Image& image, std::shared_ptr<BlobSource> source) = 0;

  virtual FetchStats stats() const = 0;
};

}  // namespace imsy::cas
