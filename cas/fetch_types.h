// What the parts of the fetcher tell each other. Internal to cas.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "cas/dispatch.h"
#include "cas/fetcher.h"
#include "cas/sources.h"
#include "cas/work_queue.h"
#include "common/mutex.h"

namespace imsy::cas {

struct ImageState;

// A chunk as fetched for a trust domain (numbered by the engine).
struct WantKey {
  cdc::ChunkDigest digest;
  std::uint32_t domain = 0;
  bool operator==(const WantKey&) const = default;
};
struct WantKeyHash {
  std::size_t operator()(const WantKey& key) const {
    return std::hash<Digest>()(key.digest) ^ key.domain;
  }
};

using WantKeys = std::unordered_set<WantKey, WantKeyHash>;

// Where a chunk's bytes belong.
struct Target {
  std::shared_ptr<ImageState> image;
  std::uint32_t chunk = 0;  // among all chunks of the image
};

// A read whose bytes are not all present yet. It ends once: whoever exchanges `over` ends it.
struct PendingRead {
  std::uint64_t id = 0;
  std::shared_ptr<ImageState> image;
  Bytes buffer;                           // parts are written by those who deliver them
  std::atomic<std::uint32_t> missing{0};  // chunks
  std::atomic<bool> over{false};
  Image::ReadDone done;
  std::vector<WantKey> keys;   // of the chunks that were missing
  std::uint64_t deadline = 0;  // number of its timer
};

// A read's interest in one chunk: `length` bytes at `from` of the chunk go to `to` of the buffer.
struct Waiter {
  std::shared_ptr<PendingRead> read;
  Target target;
  std::size_t from = 0;
  std::size_t to = 0;
  std::size_t length = 0;
};

// One range request for frames of one data layer.
struct Request {
  BlobRange range() const;
  // Makes it one for the whole blob, where that brings next to nothing more.
  void take_whole(std::uint64_t gap);

  std::shared_ptr<ImageState> image;
  std::vector<std::uint32_t> frames;  // to be kept, in order; the range may hold more
  Purpose purpose = Purpose::kDemand;
  bool whole = false;                 // the range is all of the blob
  Dispatch::Id id = 0;                // while it is on its way, or its bytes are here
  std::atomic<std::size_t> left{0};   // frames that are not processed yet
  std::atomic<bool> answered{false};  // a frame of it has come
  std::atomic<bool> not_kept{false};  // the store could not keep something of it
  std::atomic<bool> damaged{false};   // something of it was wrong

  // When it is for a frame of which wrong bytes came: the chunks that were wrong, and why.
  std::vector<std::uint32_t> wrong;
  std::string why;

  // Guarded by the image's mutex:
  Sources::Attempt attempt;
  bool waits = false;  // for an outage to pass or the image to be located, and others know it

  // Of the place that was asked last; written before its first bytes, read after them.
  std::weak_ptr<BlobSource> place;
  std::string place_name;
  std::string trust_domain;  // of what it brought
};

inline Urgency urgency_of(Purpose purpose) {
  return purpose == Purpose::kDemand ? Urgency::kDemand : Urgency::kBackground;
}

struct Counters {
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::uint64_t> bytes_fetched{0};
  std::atomic<std::uint64_t> bytes_gap{0};
  std::atomic<std::uint64_t> bytes_broken{0};
  std::atomic<std::uint64_t> bytes_wrong{0};
  std::atomic<std::uint64_t> chunks_fetched{0};
  std::atomic<std::uint64_t> chunks_copied{0};
  std::atomic<std::uint64_t> bytes_copied{0};
  std::atomic<std::uint64_t> chunks_corrupt{0};
  FetchStats read() const;
};

// The background fill of an image: frame by frame in their order, and again until nothing lacks.
struct Fill {
  std::vector<std::function<void(Status)>> done;  // who waits for its end
  bool active = false;
  bool queued = false;              // beginning, in the line for a slot, or taking a step
  bool resting = false;             // until its timer runs
  bool held = false;                // until the image is woken: its sources are of no use now
  bool ending = false;              // the end of a pass is being looked at
  std::uint32_t cursor = 0;         // next frame
  std::uint32_t rewind = kNoFrame;  // go back to this frame: a request for it failed
  std::uint32_t in_flight = 0;      // requests
  unsigned failures = 0;            // since something worked, of the store or what came
  static constexpr std::uint32_t kNoFrame = 0xffffffff;
};

// An attached image.
struct ImageState {
  ImageState(std::shared_ptr<const cdc::Manifest> its_manifest, const cdc::Anchor& its_anchor,
             std::string its_domain, std::uint32_t domain_number, Places places, Locate its_locate,
             const FetcherOptions& options)
      : manifest(std::move(its_manifest)),
        anchor(its_anchor),
        first_domain(std::move(its_domain)),
        domain(domain_number),
        locate(std::move(its_locate)),
        complete(manifest->objects().count()),
        sources(options, std::move(places), locate != nullptr),
        fill_pauses(options.retry_first, options.background_retry_longest) {}

  WantKey key(std::uint32_t chunk) const {
    return {manifest->objects().chunk(chunk).digest, domain};
  }

  const std::shared_ptr<const cdc::Manifest> manifest;
  const cdc::Anchor anchor;
  const std::string first_domain;  // when it was attached
  const std::uint32_t domain;      // its number: work is joined with others of the same
  const Locate locate;             // may be empty
  Counters counters;
  std::atomic<bool> failing{false};       // its source, for readers, so that it is logged once
  std::atomic<bool> fill_failing{false};  // the fill, likewise
  // Objects that the fill need not look at any more: whoever puts the last chunk says so.
  std::vector<std::atomic<bool>> complete;
  // Chunks that another object probably has, as was looked up for all of them at the beginning of a
  // pass, when others had brought so many. Only the fill's step or the end of its pass, of which
  // there is one at a time, use them.
  std::vector<bool> likely;
  std::uint64_t looked_up_at = 0;

  // As which it reads the store.
  const std::string& trust_domain() const { return *sees_as.load(std::memory_order_acquire); }
  // It was public, and has been read where these may.
  void join(const std::string& trust_domain_of_place) {
    MutexLock lock(mu);
    if (!trust_domain().empty()) return;
    joined = trust_domain_of_place;
    sees_as.store(&joined, std::memory_order_release);
  }
  std::atomic<const std::string*> sees_as{&first_domain};

  Mutex mu;
  std::string joined IMSY_GUARDED_BY(mu);  // set once
  bool attached IMSY_GUARDED_BY(mu) = true;
  Sources sources IMSY_GUARDED_BY(mu);
  Sources::Time wake_at IMSY_GUARDED_BY(mu) = Sources::Time::max();  // a timer runs then
  std::deque<std::shared_ptr<Request>> waiting IMSY_GUARDED_BY(mu);  // on-demand, for a place
  std::unordered_set<std::uint32_t> frames IMSY_GUARDED_BY(mu);  // some request is to bring them
  Fill fill IMSY_GUARDED_BY(mu);
  Pauses fill_pauses IMSY_GUARDED_BY(mu);
};

}  // namespace imsy::cas
