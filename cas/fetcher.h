// Fetcher: makes chunks present: from other objects in the store, or from the image's registry.
//
// Promises
//   * No call waits for the network. Callbacks run on the fetcher's threads, exactly once each.
//   * Equal work is joined by chunk digest: a chunk that is on its way, for whichever image, is not
//     fetched again. A reader that gives up does not fail the others.
//   * On-demand work goes before background work and does not queue behind it.
//   * Every chunk is verified before it is kept or given to anybody. Wrong bytes are fetched from
//     the image's next place; when all have given wrong ones the chunk fails with kCorrupt.
//     Failures are not remembered.
//   * Where a request goes, and when again, is decided in one place: cas/sources.h.
//   * What a place brings is kept for those who may read there (its trust domain) and, if the image
//     is not public, for those who may read the image. An image that was public and is read where
//     a credential is needed belongs to that place's trust domain from then on.
//   * When the store cannot keep a chunk (no space), the waiting reads are still answered.
//   * A wanted chunk that does not arrive within the deadline fails with kTimeout.
// Threads: all methods from any thread. docs/threads.md names the pools.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cas/blob_source.h"
#include "cas/planner.h"
#include "cas/store.h"

namespace imsy::cas {

struct FetcherOptions {
  unsigned workers = 2;                     // decode, hash, write
  unsigned requests_per_host = 16;          // on the wire, all images together
  unsigned background_requests = 4;         // of these of the background fill, wherever they go
  std::uint64_t in_flight_max = 32u << 20;  // stored bytes on the wire or not processed
  std::uint64_t background_rate = 0;        // bytes/s of the background, at most; 0: no limit
  PlanLimits plan;
  std::chrono::milliseconds deadline{60'000};
  // Pauses in an outage: the first, doubled each time up to the longest one (while somebody waits;
  // for the background fill).
  std::chrono::milliseconds retry_first{100};
  std::chrono::milliseconds retry_longest{2'000};
  std::chrono::milliseconds background_retry_longest{30'000};
  // Locating an image asks others as well; nothing is won by doing that more often.
  std::chrono::milliseconds locate_interval{10'000};
};

struct FetchStats {
  std::uint64_t requests = 0;
  std::uint64_t bytes_fetched = 0;  // stored bytes received from sources; of these:
  std::uint64_t bytes_gap = 0;      // lay between, or in frames that nobody needed any more
  std::uint64_t bytes_broken = 0;   // of frames that did not come whole
  std::uint64_t bytes_wrong = 0;    // of frames with something wrong
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

  // Chunks (of all that the image has) that will soon be read: those that the node lacks are
  // fetched, after what readers wait for and before the fill. A hint: what fails is left out.
  virtual void prefetch(std::vector<std::uint32_t> chunks) = 0;

  // As which it reads the store now.
  virtual std::string trust_domain() const = 0;

  virtual FetchStats stats() const = 0;
};

class Fetcher {
 public:
  static std::unique_ptr<Fetcher> create(Store& store, const FetcherOptions& options = {});
  // Waits for its threads, which may wait for the disk; open reads and fills end with kCancelled.
  // Images may outlive it and answer everything so. Sources may answer later, or never. Not from a
  // callback.
  virtual ~Fetcher() = default;

  // `places` are asked for blobs named in the anchor's data layers, in this order. When there are
  // none, or all refuse or fail, `locate` finds others; reads wait meanwhile. Without it, an image
  // that has no places fails reads of absent chunks with kUnavailable.
  virtual std::shared_ptr<Image> attach(std::shared_ptr<const cdc::Manifest> manifest,
                                        const cdc::Anchor& anchor, Places places,
                                        const std::string& trust_domain,
                                        Locate locate = nullptr) = 0;

  virtual FetchStats stats() const = 0;
  // Whether the store did not take what was fetched last.
  virtual bool keeps_nothing() const = 0;
};

}  // namespace imsy::cas
