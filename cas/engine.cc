#include "cas/engine.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/log.h"

namespace imsy::cas {
namespace {

constexpr std::uint32_t kReadMax = 4u << 20;  // bytes of one read

Error cancelled(const char* why) {
  return Error(Errc::kCancelled, why);
}

constexpr const char* kFetcherGone = "the fetcher is stopping";
constexpr const char* kImageGone = "the image was detached";

}  // namespace

FetchStats Counters::read() const {
  return {.requests = requests,
          .bytes_fetched = bytes_fetched,
          .bytes_gap = bytes_gap,
          .bytes_broken = bytes_broken,
          .bytes_wrong = bytes_wrong,
          .chunks_fetched = chunks_fetched,
          .chunks_copied = chunks_copied,
          .bytes_copied = bytes_copied,
          .chunks_corrupt = chunks_corrupt};
}

Engine::Engine(Store& store, const FetcherOptions& options)
    : store_(store),
      options_(options),
      objects_(store, ObjectCache::default_capacity()),
      dispatch_({options.requests_per_host, options.in_flight_max, options.background_rate}),
      fill_slots_(static_cast<int>(options.background_requests)),
      sync_(std::make_unique<ThreadPool>("fetch-sync", 1)),
      work_(options.workers) {
  store_.set_closer([this] { objects_.clear(); });
}

void Engine::submit(Urgency urgency, void (Engine::*step)(const ImagePtr&), const ImagePtr& image) {
  work_.submit(urgency, [self = shared_from_this(), step, image] { (self.get()->*step)(image); });
}

// --- images

std::uint32_t Engine::domain_number(const std::string& trust_domain) {
  MutexLock lock(images_mu_);
  return domains_.try_emplace(trust_domain, static_cast<std::uint32_t>(domains_.size()))
      .first->second;
}

ImagePtr Engine::attach(std::shared_ptr<const cdc::Manifest> manifest, const cdc::Anchor& anchor,
                        Places places, const std::string& trust_domain, Locate locate) {
  auto image = std::make_shared<ImageState>(std::move(manifest), anchor, trust_domain,
                                            domain_number(trust_domain), std::move(places),
                                            std::move(locate), options_);
  MutexLock lock(images_mu_);
  images_.insert(image);
  return image;
}

void Engine::detach(const ImagePtr& image) {
  Places places;  // let go here, not by a thread of their own
  std::deque<RequestPtr> waiting;
  std::vector<std::function<void(Status)>> fills;
  {
    MutexLock lock(images_mu_);
    images_.erase(image);
  }
  {
    MutexLock lock(image->mu);
    image->attached = false;
    image->fill.active = false;
    places = image->sources.close();
    waiting.swap(image->waiting);
    fills.swap(image->fill.done);
  }
  std::vector<ReadPtr> reads;
  {
    MutexLock lock(reads_mu_);
    for (const auto& [id, read] : reads_) {
      if (read->image == image) reads.push_back(read);
    }
  }
  for (const ReadPtr& read : reads) end_read_later(read, cancelled(kImageGone));
  cancel_wires(image.get());
  // So that the store may give up what no other image has.
  objects_.clear();
  work_.submit(Urgency::kDemand, [self = shared_from_this(), image, waiting, fills] {
    for (const RequestPtr& request : waiting) {
      self->release_frames(*request, InFlight::Why::kFailed, cancelled(kImageGone));
    }
    for (const auto& done : fills) done(cancelled(kImageGone));
  });
}

void Engine::stop() {
  if (stopped_.exchange(true)) return;
  work_.stop();
  sync_.reset();
  store_.set_closer(nullptr);
  std::unordered_set<ImagePtr> images;
  {
    MutexLock lock(images_mu_);
    images.swap(images_);
  }
  for (const ImagePtr& image : images) {
    Places places;
    std::vector<std::function<void(Status)>> fills;
    {
      MutexLock lock(image->mu);
      image->attached = false;
      places = image->sources.close();
      fills.swap(image->fill.done);
    }
    for (const auto& done : fills) done(cancelled(kFetcherGone));
  }
  std::unordered_map<std::uint64_t, ReadPtr> reads;
  {
    MutexLock lock(reads_mu_);
    reads = reads_;
  }
  for (const auto& [id, read] : reads) end_read(read, cancelled(kFetcherGone));
  cancel_wires(nullptr);
  std::unordered_map<Dispatch::Id, Wire> wires;
  {
    MutexLock lock(wires_mu_);
    wires.swap(wires_);
  }
  in_flight_.clear();
  objects_.clear();
}

// --- reads

std::uint64_t Engine::read(const ImagePtr& image, std::uint32_t object, std::uint64_t offset,
                           std::uint32_t length, Image::ReadDone done) {
  const auto answer = [&](Result<Bytes> result) -> std::uint64_t {
    done(std::move(result));
    return 0;
  };
  if (stopped_) return answer(cancelled(kFetcherGone));
  if (object >= image->manifest->objects().count()) {
    return answer(Error(Errc::kInvalid, "the image has no object " + std::to_string(object)));
  }
  if (length > kReadMax) {
    return answer(Error(Errc::kInvalid, "a read of more than " + std::to_string(kReadMax) +
                                            " bytes; ask for less at a time"));
  }
  const std::uint64_t size = image->manifest->tree().object_size(object);
  if (offset >= size || length == 0) return answer(Bytes());
  Bytes buffer(static_cast<std::size_t>(std::min<std::uint64_t>(length, size - offset)));
  const auto missing = read_present(*image, object, offset, buffer);
  if (missing.empty()) return answer(std::move(buffer));
  return wait_for(image, std::move(buffer), missing, std::move(done));
}

// Fills what is present into the buffer and returns the rest. An object that cannot be opened or
// read is no failure: its bytes are fetched.
std::vector<Engine::Missing> Engine::read_present(const ImageState& image, std::uint32_t object,
                                                  std::uint64_t offset, Bytes& buffer) {
  const cdc::Objects& objects = image.manifest->objects();
  const auto opened = open_object(image, object);
  if (opened && (*opened)->complete() && (*opened)->read(offset, buffer)) return {};
  std::vector<Missing> missing;
  const std::uint64_t end = offset + buffer.size();
  for (std::uint32_t c = objects.chunk_at(object, offset);
       c < objects.first_chunk(object) + objects.chunk_count(object); ++c) {
    const cdc::Chunk& chunk = objects.chunk(c);
    if (chunk.object_offset >= end) break;
    const std::uint64_t from = std::max(offset, chunk.object_offset);
    const std::uint64_t to = std::min(end, chunk.object_offset + chunk.size);
    const auto part = std::span(buffer).subspan(from - offset, to - from);
    if (opened && (*opened)->has_chunk(c - objects.first_chunk(object)) &&
        (*opened)->read(from, part)) {
      continue;
    }
    missing.push_back({c, from - chunk.object_offset, from - offset, part.size()});
  }
  return missing;
}

std::uint64_t Engine::wait_for(const ImagePtr& image, Bytes buffer,
                               const std::vector<Missing>& missing, Image::ReadDone done) {
  auto read = std::make_shared<PendingRead>();
  read->id = ++last_read_;
  read->image = image;
  read->buffer = std::move(buffer);
  read->missing = static_cast<std::uint32_t>(missing.size());
  read->done = std::move(done);
  for (const Missing& part : missing) read->keys.push_back(image->key(part.chunk));
  {
    MutexLock lock(reads_mu_);
    reads_.emplace(read->id, read);
  }
  const std::uint64_t timer =
      work_.at(WorkQueue::Clock::now() + options_.deadline,
               [self = weak_from_this(), late = std::weak_ptr(read)] {
                 const auto engine = self.lock();
                 const auto still = late.lock();
                 if (engine == nullptr || still == nullptr) return;
                 engine->end_read_later(
                     still, Error(Errc::kTimeout, "the registry did not deliver in time"));
               });
  {
    MutexLock lock(reads_mu_);
    read->deadline = timer;
  }
  const std::uint64_t id = read->id;
  std::vector<std::uint32_t> start;
  std::vector<std::uint32_t> joined;
  for (const Missing& part : missing) {
    const Waiter waiter{read, {image, part.chunk}, part.from, part.to, part.length};
    (in_flight_.join(image->key(part.chunk), waiter) ? start : joined).push_back(part.chunk);
  }
  if (!start.empty()) {
    work_.submit(Urgency::kDemand, [self = shared_from_this(), image, start] {
      self->plan(image, start, As::kFirst);
    });
  }
  if (!joined.empty()) {
    readers_seen_ = Sources::Clock::now();
    work_.submit(Urgency::kDemand,
                 [self = shared_from_this(), image, joined] { self->hurry(*image, joined); });
  }
  return id;
}

void Engine::end_read(const ReadPtr& read, Result<Bytes> result) {
  if (read->over.exchange(true)) return;
  std::uint64_t timer = 0;
  {
    MutexLock lock(reads_mu_);
    reads_.erase(read->id);
    timer = read->deadline;
  }
  work_.forget(timer);
  if (!result) {
    for (const WantKey& key : read->keys) in_flight_.leave(key, read.get());
  }
  const Image::ReadDone done = std::move(read->done);
  done(std::move(result));
}

// On a worker, as promised, whoever it is that ends it.
void Engine::end_read_later(const ReadPtr& read, const Error& error) {
  work_.submit(Urgency::kDemand,
               [self = shared_from_this(), read, error] { self->end_read(read, error); });
}

void Engine::cancel(std::uint64_t id) {
  ReadPtr read;
  {
    MutexLock lock(reads_mu_);
    const auto found = reads_.find(id);
    if (found == reads_.end()) return;
    read = found->second;
  }
  end_read_later(read, cancelled("the reader gave up"));
}

// --- chunks

// Chunks that `image` is to bring, because somebody waits for them. Since it was the first to want
// one, the request of another image may have begun to bring it with its frame.
void Engine::plan(const ImagePtr& image, const std::vector<std::uint32_t>& chunks, As as) {
  std::vector<std::uint32_t> rest;
  std::vector<std::uint32_t> left;
  for (const std::uint32_t chunk : chunks) {
    const WantKey key = image->key(chunk);
    if (!in_flight_.is_awaited(key)) {
      settle(in_flight_.give_up(key, image.get(), InFlight::Why::kDone), cancelled(kImageGone));
    } else if (find_locally(image, chunk)) {
      continue;
    } else if (as == As::kFirst && in_flight_.leave_to_others(key, image.get())) {
      left.push_back(chunk);
    } else {
      rest.push_back(chunk);
    }
  }
  if (!rest.empty()) request_chunks(image, rest);
  if (!left.empty()) hurry(*image, left);
}

// Acts on what became of a chunk that an image does not bring.
void Engine::settle(const InFlight::Outcome& outcome, const Error& error) {
  for (const Waiter& waiter : outcome.failed) end_read(waiter.read, error);
  for (const Target& target : outcome.restart) {
    work_.submit(Urgency::kDemand, [self = shared_from_this(), target] {
      self->plan(target.image, {target.chunk}, As::kHelper);
    });
  }
}

// Serves the chunk from its own object (it may have come since it was missed) or from another one.
bool Engine::find_locally(const ImagePtr& image, std::uint32_t index) {
  const cdc::Objects& objects = image->manifest->objects();
  const cdc::Chunk& chunk = objects.chunk(index);
  const std::uint32_t object = objects.object_of_chunk(index);
  const auto opened = open_object(*image, object);
  if (opened && (*opened)->has_chunk(index - objects.first_chunk(object))) {
    Bytes bytes(chunk.size);
    if ((*opened)->read(chunk.object_offset, bytes)) {
      return deliver(image, index, bytes, Got::kPresent, image->trust_domain()) != Fate::kWrong;
    }
  }
  const std::string& domain = image->trust_domain();
  const auto copy = store_.find_chunk(chunk, domain);
  return copy && *copy && deliver(image, index, **copy, Got::kCopied, domain) != Fate::kWrong;
}

Status Engine::put(ImageState& image, std::uint32_t chunk, ByteSpan raw,
                   const std::string& trust_domain) {
  if (!trust_domain.empty()) image.join(trust_domain);
  Status done = put_as(image, chunk, raw, trust_domain);
  const std::string& own = image.trust_domain();
  if (done && !own.empty() && own != trust_domain) done = put_as(image, chunk, raw, own);
  return done;
}

Status Engine::put_as(ImageState& image, std::uint32_t chunk, ByteSpan raw,
                      const std::string& trust_domain) {
  const cdc::Objects& objects = image.manifest->objects();
  const std::uint32_t object = objects.object_of_chunk(chunk);
  IMSY_TRY_ASSIGN(const auto opened, objects_.open(*image.manifest, object, trust_domain));
  IMSY_TRY(store_.put_chunk(*opened, chunk - objects.first_chunk(object), raw));
  if (trust_domain == image.trust_domain() && opened->complete()) image.complete[object] = true;
  return {};
}

void Engine::note_put(const Status& status) {
  if (!status && !put_failing_.exchange(true)) {
    log::warn("the store cannot keep what is fetched; readers are served from memory: {}",
              status.error().message());
  }
  if (status && put_failing_ && put_failing_.exchange(false)) {
    log::info("the store keeps what is fetched again");
  }
}

void Engine::count(ImageState& image, Got got, std::size_t bytes) {
  for (Counters* counters : {&counters_, &image.counters}) {
    if (got == Got::kFetched) ++counters->chunks_fetched;
    if (got == Got::kCopied) {
      ++counters->chunks_copied;
      counters->bytes_copied += bytes;
    }
  }
}

Engine::Fate Engine::deliver(const ImagePtr& image, std::uint32_t chunk, ByteSpan raw, Got got,
                             const std::string& trust_domain) {
  const cdc::ChunkDigest& digest = image->manifest->objects().chunk(chunk).digest;
  const Status kept = got == Got::kPresent ? Status() : put(*image, chunk, raw, trust_domain);
  // Kept bytes have been checked. Those that could not be kept must be, before a reader gets them.
  if (!kept && sha256(raw) != digest) return Fate::kWrong;
  if (got != Got::kPresent) note_put(kept);
  count(*image, got, raw.size());
  // Images that are public have joined this one, but may not have what is not.
  const bool alone = image->first_domain.empty() && !trust_domain.empty();
  for (;;) {
    const InFlight::Delivery delivery =
        in_flight_.take(image->key(chunk), alone ? image.get() : nullptr);
    for (const Target& target : delivery.targets) {
      if (target.image == image && target.chunk == chunk) continue;
      note_put(put(*target.image, target.chunk, raw, trust_domain));
    }
    if (!delivery.over) continue;
    for (const Waiter& waiter : delivery.waiters) {
      std::memcpy(waiter.read->buffer.data() + waiter.to, raw.data() + waiter.from, waiter.length);
      if (--waiter.read->missing == 0) end_read(waiter.read, std::move(waiter.read->buffer));
    }
    if (alone) {
      settle(in_flight_.give_up(image->key(chunk), image.get(), InFlight::Why::kDone),
             Error(Errc::kUnavailable, "the chunk did not come"));
    }
    return kept ? Fate::kKept : Fate::kNotKept;
  }
}

}  // namespace imsy::cas
