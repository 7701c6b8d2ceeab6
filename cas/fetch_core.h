// FetchCore: what all images of a fetcher share, and the way of a chunk. Internal to cas.
//
//   wanted -> (has it come meanwhile?) -> local copy -> frame -> verified -> kept -> handed out
//
// A chunk that is on its way is known by its digest in `flights_`; whoever wants it, for whichever
// image, waits there. Frames are fetched in runs (cas/frame_plan.h); all chunks of a run that are
// missing are on their way with it.
// Threads: all methods from any thread. docs/locks.md.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "cas/fetcher.h"
#include "cas/frame_plan.h"
#include "cas/work_queue.h"
#include "common/mutex.h"

namespace imsy::cas {

using SharedBytes = std::shared_ptr<const Bytes>;

struct FetchCounters {
  std::atomic<std::uint64_t> requests{0}, bytes_fetched{0}, chunks_fetched{0}, chunks_copied{0},
      bytes_copied{0}, chunks_corrupt{0};
  FetchStats read() const;
};

// An attached image, as the core sees it.
class ImageState {
 public:
  ImageState(std::shared_ptr<const cdc::Manifest> its_manifest, const cdc::Anchor& its_anchor,
             std::shared_ptr<BlobSource> source, std::string domain)
      : manifest(std::move(its_manifest)),
        anchor(its_anchor),
        trust_domain(std::move(domain)),
        source_(std::move(source)) {}

  // Constant after construction.
  const std::shared_ptr<const cdc::Manifest> manifest;
  const cdc::Anchor anchor;
  const std::string trust_domain;

  // Synchronise themselves.
  FetchCounters counters;
  std::atomic<bool> detached{false};

  std::shared_ptr<BlobSource> source() const;
  void set_source(std::shared_ptr<BlobSource> source);
  // The object, open; the last few hundred stay open.
  Result<std::shared_ptr<Object>> object(Store& store, std::uint32_t index);

  const cdc::Objects& objects() const { return manifest->objects(); }

 private:
  mutable Mutex mu_;
  std::shared_ptr<BlobSource> source_ IMSY_GUARDED_BY(mu_);
  std::unordered_map<std::uint32_t, std::shared_ptr<Object>> open_ IMSY_GUARDED_BY(mu_);
};

// A chunk that somebody waits for.
struct Want {
  std::shared_ptr<ImageState> image;
  std::uint32_t object = 0;
  std::uint32_t chunk = 0;  // index in the manifest
  // Called once, on a thread of the fetcher, with the chunk's verified bytes.
  std::function<void(const Result<SharedBytes>&)> done;
  // False when nobody waits any more; then `done` need not be called.
  std::function<bool()> alive;
};

class FetchCore : public std::enable_shared_from_this<FetchCore> {
 public:
  FetchCore(Store& store, const FetcherOptions& options)
      : store_(store), options_(options), queue_(options.workers) {}

  // Gets a chunk for a reader.
  void want(Want want);
  // Fetches a run in the background. `done` gets the source's error, if there was one; whether each
  // chunk came right is asked of the store.
  void fetch_run(const std::shared_ptr<ImageState>& image, FrameRun run, Urgency urgency,
                 std::function<void(Status)> done);
  // Copies a chunk from another object of the store. False: it is not there.
  bool copy_chunk(ImageState& image, std::uint32_t object, std::uint32_t chunk);

  void stop();
  bool stopped() const { return stopped_; }

  Store& store() { return store_; }
  WorkQueue& queue() { return queue_; }
  const FetcherOptions& options() const { return options_; }
  FetchStats stats() const { return counters_.read(); }

 private:
  struct Flight {
    std::vector<Want> wants;
  };
  struct Run;
  using RunPtr = std::shared_ptr<Run>;

  void plan();
  bool satisfy_locally(const Want& want);
  void launch(const RunPtr& run);
  void arrived(const RunPtr& run, Result<Bytes> bytes);
  void unpack(const RunPtr& run, const Bytes& bytes);
  bool unpack_frame(const Run& run, std::uint32_t frame, ByteSpan stored);
  void frame_is_bad(const RunPtr& run, std::uint32_t frame);
  void source_failed(const RunPtr& run, const Error& error);
  Status put(ImageState& image, std::uint32_t chunk, ByteSpan raw);
  void keep(ImageState& image, std::uint32_t chunk, ByteSpan raw);
  void board(const RunPtr& run);
  void land(const cdc::ChunkDigest& digest, ByteSpan raw);
  bool land_present(ImageState& image, std::uint32_t chunk);
  void fail(const ImageState& image, const cdc::ChunkDigest& digest, const Error& error);
  void fail_frames(const Run& run, FrameRun frames, const Error& error);
  bool in_flight(const cdc::ChunkDigest& digest);
  bool somebody_waits(const Run& run);
  void run_ended(const RunPtr& run, Status outcome);
  template <typename Add>
  void count(ImageState& image, Add add);

  Store& store_;
  const FetcherOptions options_;
  std::atomic<bool> stopped_{false};
  FetchCounters counters_;

  Mutex mu_;
  std::unordered_map<cdc::ChunkDigest, Flight> flights_ IMSY_GUARDED_BY(mu_);
  std::vector<Want> to_plan_ IMSY_GUARDED_BY(mu_);
  bool planning_ IMSY_GUARDED_BY(mu_) = false;
  std::map<const ImageState*, unsigned> demand_runs_ IMSY_GUARDED_BY(mu_);
  std::vector<RunPtr> held_back_ IMSY_GUARDED_BY(mu_);  // demand runs over the limit

  WorkQueue queue_;  // last: its threads use all of the above
};

}  // namespace imsy::cas
