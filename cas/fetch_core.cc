#include "cas/fetch_core.h"

#include <algorithm>
#include <set>
#include <utility>

#include "cdc/frame.h"
#include "common/log.h"

namespace imsy::cas {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kOpenObjects = 256;  // per image
constexpr milliseconds kBackOffFirst{200};
constexpr milliseconds kBackOffMax{5'000};

bool may_go_away(const Error& error) {
  return error.code() == Errc::kUnavailable || error.code() == Errc::kTimeout;
}

std::string describe(const ImageState& image, std::uint32_t frame_index) {
  const cdc::Frame& frame = image.objects().frame(frame_index);
  return "image " + image.manifest->digest().to_string() + ", blob " +
         image.anchor.data_layers[frame.layer].blob.to_string() + ", bytes " +
         std::to_string(frame.stored_offset) + "+" + std::to_string(frame.stored_size);
}

}  // namespace

FetchStats FetchCounters::read() const {
  FetchStats stats;
  stats.requests = requests;
  stats.bytes_fetched = bytes_fetched;
  stats.chunks_fetched = chunks_fetched;
  stats.chunks_copied = chunks_copied;
  stats.bytes_copied = bytes_copied;
  stats.chunks_corrupt = chunks_corrupt;
  return stats;
}

std::shared_ptr<BlobSource> ImageState::source() const {
  MutexLock lock(mu_);
  return source_;
}

void ImageState::set_source(std::shared_ptr<BlobSource> source) {
  MutexLock lock(mu_);
  source_.swap(source);
}

Result<std::shared_ptr<Object>> ImageState::object(Store& store, std::uint32_t index) {
  {
    MutexLock lock(mu_);
    if (const auto found = open_.find(index); found != open_.end()) return found->second;
  }
  IMSY_TRY_ASSIGN(auto object, store.open_object(*manifest, index));
  decltype(open_) closed;  // without the lock
  MutexLock lock(mu_);
  if (open_.size() >= kOpenObjects) closed.swap(open_);
  return open_.emplace(index, std::move(object)).first->second;
}

// One request on its way: a run of frames of one image.
struct FetchCore::Run {
  std::shared_ptr<ImageState> image;
  FrameRun frames;
  Urgency urgency = Urgency::kDemand;
  std::function<void(Status)> done;  // may be empty
  bool boarded = false;              // its missing chunks are known to be on their way
  bool again = false;                // a frame that came wrong once
  milliseconds back_off = kBackOffFirst;
};

template <typename Add>
void FetchCore::count(ImageState& image, Add add) {
  add(counters_);
  add(image.counters);
}

void FetchCore::stop() {
  stopped_ = true;
  queue_.stop();
  std::unordered_map<cdc::ChunkDigest, Flight> flights;
  std::vector<Want> waiting;
  std::vector<RunPtr> held_back;
  {
    MutexLock lock(mu_);
    flights.swap(flights_);
    waiting.swap(to_plan_);
    held_back.swap(held_back_);
  }
  const Result<SharedBytes> ended = Error(Errc::kCancelled, "the fetcher is stopping");
  for (const auto& want : waiting) want.done(ended);
  for (const auto& [digest, flight] : flights) {
    for (const auto& want : flight.wants) want.done(ended);
  }
}

// --- wanted chunks -------------------------------------------------------------------------------

void FetchCore::want(Want want) {
  const cdc::ChunkDigest& digest = want.image->objects().chunk(want.chunk).digest;
  bool plan_now = false;
  bool refused = false;
  {
    MutexLock lock(mu_);
    if (stopped_) {
      refused = true;
    } else if (const auto flight = flights_.find(digest); flight != flights_.end()) {
      flight->second.wants.push_back(std::move(want));
      return;
    } else {
      to_plan_.push_back(std::move(want));
      plan_now = !std::exchange(planning_, true);
    }
  }
  if (refused) return want.done(Error(Errc::kCancelled, "the fetcher is stopping"));
  // Wants of one reader, and of readers at the same time, are planned together.
  if (plan_now) {
    queue_.submit(Urgency::kDemand, [self = shared_from_this()] { self->plan(); });
  }
}

// What is here or can be copied is handed out; the rest becomes runs.
void FetchCore::plan() {
  std::vector<Want> wants;
  {
    MutexLock lock(mu_);
    wants.swap(to_plan_);
    planning_ = false;
  }
  std::map<std::shared_ptr<ImageState>, std::set<std::uint32_t>> frames;
  for (auto& want : wants) {
    if (satisfy_locally(want)) continue;
    const auto& objects = want.image->objects();
    const std::uint32_t frame = objects.frame_of_chunk(want.chunk);
    const auto image = want.image;
    bool joined = false;
    {
      MutexLock lock(mu_);
      auto [flight, is_new] = flights_.try_emplace(objects.chunk(want.chunk).digest);
      flight->second.wants.push_back(std::move(want));
      joined = !is_new;
    }
    if (!joined) frames[image].insert(frame);
  }
  for (const auto& [image, wanted] : frames) {
    const std::vector<std::uint32_t> sorted(wanted.begin(), wanted.end());
    for (const FrameRun& part :
         plan_runs(image->objects(), sorted, options_.gap_max, options_.demand_span)) {
      auto run = std::make_shared<Run>();
      run->image = image;
      run->frames = part;
      launch(run);
    }
  }
}

bool FetchCore::satisfy_locally(const Want& want) {
  const cdc::Chunk& chunk = want.image->objects().chunk(want.chunk);
  auto object = want.image->object(store_, want.object);
  if (object) {
    const std::uint32_t index = want.chunk - want.image->objects().first_chunk(want.object);
    if ((*object)->has_chunk(index)) {
      auto raw = std::make_shared<Bytes>(chunk.size);
      if ((*object)->read(chunk.object_offset, *raw)) {
        want.done(SharedBytes(std::move(raw)));
        return true;
      }
    }
  }
  auto copy = store_.find_chunk(chunk, want.image->trust_domain);
  if (!copy || !copy->has_value()) return false;
  const auto raw = std::make_shared<const Bytes>(std::move(**copy));
  count(*want.image, [&](FetchCounters& counters) {
    ++counters.chunks_copied;
    counters.bytes_copied += raw->size();
  });
  keep(*want.image, want.chunk, *raw);
  want.done(SharedBytes(raw));
  return true;
}

bool FetchCore::copy_chunk(ImageState& image, std::uint32_t object, std::uint32_t chunk) {
  auto copy = store_.find_chunk(image.objects().chunk(chunk), image.trust_domain);
  if (!copy || !copy->has_value()) return false;
  auto target = image.object(store_, object);
  if (!target) return false;
  const auto put = store_.put_chunk(**target, chunk - image.objects().first_chunk(object), **copy);
  if (!put) return false;
  count(image, [&](FetchCounters& counters) {
    ++counters.chunks_copied;
    counters.bytes_copied += (*copy)->size();
  });
  return true;
}

Status FetchCore::put(ImageState& image, std::uint32_t chunk, ByteSpan raw) {
  const std::uint32_t index = image.objects().object_of_chunk(chunk);
  IMSY_TRY_ASSIGN(const auto object, image.object(store_, index));
  return store_.put_chunk(*object, chunk - image.objects().first_chunk(index), raw);
}

// Puts a verified chunk into its object, unless it is there. That it cannot be kept fails no
// reader: the bytes are in memory.
void FetchCore::keep(ImageState& image, std::uint32_t chunk, ByteSpan raw) {
  const std::uint32_t index = image.objects().object_of_chunk(chunk);
  const auto object = image.object(store_, index);
  if (object && (*object)->has_chunk(chunk - image.objects().first_chunk(index))) return;
  if (const auto kept = put(image, chunk, raw); !kept) {
    log::warn("a chunk is not kept: {}", kept.error().message());
  }
}

// --- runs ----------------------------------------------------------------------------------------

void FetchCore::fetch_run(const std::shared_ptr<ImageState>& image, FrameRun frames,
                          Urgency urgency, std::function<void(Status)> done) {
  auto run = std::make_shared<Run>();
  run->image = image;
  run->frames = frames;
  run->urgency = urgency;
  run->done = std::move(done);
  launch(run);
}

// All missing chunks of the run are on their way from now on.
void FetchCore::board(const RunPtr& run) {
  const auto& objects = run->image->objects();
  std::vector<cdc::ChunkDigest> missing;
  for (std::uint32_t f = run->frames.first; f <= run->frames.last; ++f) {
    for (const std::uint32_t chunk : objects.chunks_in_frame(f)) {
      const std::uint32_t index = objects.object_of_chunk(chunk);
      auto object = run->image->object(store_, index);
      if (object && (*object)->has_chunk(chunk - objects.first_chunk(index))) continue;
      missing.push_back(objects.chunk(chunk).digest);
    }
  }
  run->boarded = true;
  MutexLock lock(mu_);
  for (const auto& digest : missing) flights_.try_emplace(digest);
}

void FetchCore::launch(const RunPtr& run) {
  if (run->urgency == Urgency::kDemand) {
    MutexLock lock(mu_);
    unsigned& open = demand_runs_[run->image.get()];
    if (open >= options_.demand_requests) {
      held_back_.push_back(run);
      return;
    }
    ++open;
  }
  if (!run->boarded) board(run);
  const auto source = run->image->source();
  if (source == nullptr) {
    return queue_.submit(run->urgency, [self = shared_from_this(), run] {
      self->source_failed(run, Error(Errc::kUnavailable, "the image's registry is not known"));
    });
  }
  const auto& objects = run->image->objects();
  const cdc::Frame& first = objects.frame(run->frames.first);
  const cdc::Frame& last = objects.frame(run->frames.last);
  const cdc::Anchor::DataLayer& layer = run->image->anchor.data_layers[first.layer];
  BlobRange range;
  range.blob = layer.blob;
  range.blob_size = layer.size;
  range.offset = first.stored_offset;
  range.length = last.stored_offset + last.stored_size - first.stored_offset;
  count(*run->image, [](FetchCounters& counters) { ++counters.requests; });
  // The source's thread must not wait: decoding and writing are work for ours.
  source->read(range, [weak = weak_from_this(), run](Result<Bytes> bytes) {
    const auto self = weak.lock();
    if (self == nullptr || self->stopped()) return;
    auto shared = std::make_shared<Result<Bytes>>(std::move(bytes));
    self->queue_.submit(run->urgency,
                        [self, run, shared] { self->arrived(run, std::move(*shared)); });
  });
}

void FetchCore::arrived(const RunPtr& run, Result<Bytes> bytes) {
  if (!bytes) return source_failed(run, bytes.error());
  count(*run->image, [&](FetchCounters& counters) { counters.bytes_fetched += bytes->size(); });
  unpack(run, *bytes);
}

void FetchCore::unpack(const RunPtr& run, const Bytes& bytes) {
  const auto& objects = run->image->objects();
  const std::uint64_t start = objects.frame(run->frames.first).stored_offset;
  std::vector<std::uint32_t> bad;
  for (std::uint32_t f = run->frames.first; f <= run->frames.last; ++f) {
    const cdc::Frame& frame = objects.frame(f);
    const auto stored = ByteSpan(bytes).subspan(
        static_cast<std::size_t>(frame.stored_offset - start), frame.stored_size);
    if (!unpack_frame(*run, f, stored)) bad.push_back(f);
  }
  for (const std::uint32_t f : bad) frame_is_bad(run, f);
  run_ended(run, {});
}

bool FetchCore::in_flight(const cdc::ChunkDigest& digest) {
  MutexLock lock(mu_);
  return flights_.contains(digest);
}

// Decodes, verifies, keeps and hands out. False when any missing chunk of the frame is wrong.
bool FetchCore::unpack_frame(const Run& run, std::uint32_t index, ByteSpan stored) {
  thread_local cdc::FrameDecoder decoder;
  const auto& objects = run.image->objects();
  const auto raw = decoder.decode(stored, objects.frame(index).raw_size);
  bool all_right = true;
  for (const std::uint32_t c : objects.chunks_in_frame(index)) {
    const cdc::Chunk& chunk = objects.chunk(c);
    if (land_present(*run.image, c)) continue;
    const auto place =
        raw ? ByteSpan(*raw).subspan(objects.offset_in_frame(c), chunk.size) : ByteSpan();
    const auto kept = raw ? put(*run.image, c, place) : Status(raw.error());
    // put() has checked the digest, unless something else kept it from that.
    const bool right =
        kept || (kept.error().code() != Errc::kCorrupt && sha256(place) == chunk.digest);
    if (!right) {
      count(*run.image, [](FetchCounters& counters) { ++counters.chunks_corrupt; });
      all_right = false;
      continue;
    }
    if (!kept) log::warn("a chunk is not kept: {}", kept.error().message());
    count(*run.image, [](FetchCounters& counters) { ++counters.chunks_fetched; });
    land(chunk.digest, place);
  }
  return all_right;
}

// True when the object has the chunk by now; who waits for it gets it from there.
bool FetchCore::land_present(ImageState& image, std::uint32_t c) {
  const auto& objects = image.objects();
  const cdc::Chunk& chunk = objects.chunk(c);
  const std::uint32_t o = objects.object_of_chunk(c);
  const auto object = image.object(store_, o);
  if (!object || !(*object)->has_chunk(c - objects.first_chunk(o))) return false;
  if (!in_flight(chunk.digest)) return true;
  Bytes bytes(chunk.size);
  if (!(*object)->read(chunk.object_offset, bytes)) return false;
  land(chunk.digest, bytes);
  return true;
}

// Once more, alone; then those who wait for its missing chunks learn that it is damaged.
void FetchCore::frame_is_bad(const RunPtr& run, std::uint32_t frame) {
  if (run->again) {
    const Error error(Errc::kCorrupt,
                      describe(*run->image, frame) + ": the registry's bytes are damaged");
    log::error("{}", error.message());
    return fail_frames(*run, {frame, frame}, error);
  }
  log::warn("{}: received damaged, fetching it once more", describe(*run->image, frame));
  auto retry = std::make_shared<Run>();
  retry->image = run->image;
  retry->frames = {frame, frame};
  retry->urgency = run->urgency;
  retry->again = true;
  launch(retry);
}

// The chunk is not coming with this image's frame. Who wants it for the same image learns so; who
// joined from another image goes on with that image's own frame.
void FetchCore::fail(const ImageState& image, const cdc::ChunkDigest& digest, const Error& error) {
  Flight flight;
  {
    MutexLock lock(mu_);
    const auto found = flights_.find(digest);
    if (found == flights_.end()) return;
    flight = std::move(found->second);
    flights_.erase(found);
  }
  for (auto& other : flight.wants) {
    if (other.image.get() == &image) {
      other.done(error);
    } else {
      want(std::move(other));
    }
  }
}

void FetchCore::fail_frames(const Run& run, FrameRun frames, const Error& error) {
  const auto& objects = run.image->objects();
  for (std::uint32_t f = frames.first; f <= frames.last; ++f) {
    for (const std::uint32_t c : objects.chunks_in_frame(f)) {
      if (!land_present(*run.image, c)) fail(*run.image, objects.chunk(c).digest, error);
    }
  }
}

void FetchCore::land(const cdc::ChunkDigest& digest, ByteSpan raw) {
  Flight flight;
  {
    MutexLock lock(mu_);
    const auto found = flights_.find(digest);
    if (found == flights_.end()) return;
    flight = std::move(found->second);
    flights_.erase(found);
  }
  if (flight.wants.empty()) return;
  const auto bytes = std::make_shared<const Bytes>(raw.begin(), raw.end());
  for (const auto& waiting : flight.wants) {
    keep(*waiting.image, waiting.chunk, raw);
    waiting.done(SharedBytes(bytes));
  }
}

bool FetchCore::somebody_waits(const Run& run) {
  const auto& objects = run.image->objects();
  MutexLock lock(mu_);
  for (std::uint32_t f = run.frames.first; f <= run.frames.last; ++f) {
    for (const std::uint32_t c : objects.chunks_in_frame(f)) {
      const auto flight = flights_.find(objects.chunk(c).digest);
      if (flight == flights_.end()) continue;
      for (const auto& waiting : flight->second.wants) {
        if (waiting.alive()) return true;
      }
    }
  }
  return false;
}

// A run that somebody waits for is repeated; any other is given up, and its caller told.
void FetchCore::source_failed(const RunPtr& run, const Error& error) {
  if (!may_go_away(error) || run->image->detached || !somebody_waits(*run)) {
    fail_frames(*run, run->frames, error);
    return run_ended(run, error);
  }
  auto retry = std::make_shared<Run>(*run);
  retry->back_off = std::min(kBackOffMax, 2 * run->back_off);
  retry->done = nullptr;
  retry->urgency = Urgency::kDemand;
  queue_.at(WorkQueue::Clock::now() + run->back_off, [weak = weak_from_this(), retry] {
    if (const auto self = weak.lock()) {
      self->queue_.submit(Urgency::kDemand, [self, retry] { self->launch(retry); });
    }
  });
  run_ended(run, error);
}

void FetchCore::run_ended(const RunPtr& run, Status outcome) {
  RunPtr next;
  if (run->urgency == Urgency::kDemand) {
    MutexLock lock(mu_);
    const auto open = demand_runs_.find(run->image.get());
    if (open != demand_runs_.end() && --open->second == 0) demand_runs_.erase(open);
    const auto held = std::find_if(held_back_.begin(), held_back_.end(),
                                   [&](const RunPtr& r) { return r->image == run->image; });
    if (held != held_back_.end()) {
      next = *held;
      held_back_.erase(held);
    }
  }
  if (run->done) run->done(std::move(outcome));
  if (next) launch(next);
}

}  // namespace imsy::cas
