#include "cas/fetcher.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "cas/fetch_core.h"
#include "cas/image_fill.h"

namespace imsy::cas {
namespace {

constexpr std::uint32_t kReadMax = 4u << 20;  // bytes of one read; more is cut

// One read that waits for chunks.
class Reading {
 public:
  Reading(std::shared_ptr<ImageState> image, std::uint32_t object, std::uint64_t offset,
          std::uint32_t length, Image::ReadDone done)
      : image_(std::move(image)),
        object_(object),
        offset_(offset),
        length_(length),
        done_(std::move(done)) {}

  void expect(std::uint32_t chunk) {
    MutexLock lock(mu_);
    pieces_.emplace(chunk, nullptr);
    ++missing_;
  }
  bool alive() const {
    MutexLock lock(mu_);
    return !finished_;
  }

  // True when it was the last one and the read can be answered.
  bool take(std::uint32_t chunk, SharedBytes bytes) {
    MutexLock lock(mu_);
    pieces_[chunk] = std::move(bytes);
    return --missing_ == 0 && !finished_;
  }

  // Calls `done`, once.
  void finish(Result<Bytes> result) {
    Image::ReadDone done;
    {
      MutexLock lock(mu_);
      if (finished_) return;
      finished_ = true;
      done = std::move(done_);
    }
    done(std::move(result));
  }

  // Puts together what came and what was there. The latter may fail on the disk: then its chunks
  // are in `lost`, to be fetched.
  Result<Bytes> assemble(Store& store, std::vector<std::uint32_t>& lost) {
    const auto& objects = image_->objects();
    IMSY_TRY_ASSIGN(const auto object, image_->object(store, object_));
    Bytes bytes(length_);
    const std::uint32_t first = objects.chunk_at(object_, offset_);
    const std::uint32_t last = objects.chunk_at(object_, offset_ + length_ - 1);
    for (std::uint32_t c = first; c <= last; ++c) {
      const cdc::Chunk& chunk = objects.chunk(c);
      const std::uint64_t from = std::max(offset_, chunk.object_offset);
      const std::uint64_t to =
          std::min<std::uint64_t>(offset_ + length_, chunk.object_offset + chunk.size);
      const auto place = std::span(bytes).subspan(static_cast<std::size_t>(from - offset_),
                                                  static_cast<std::size_t>(to - from));
      if (const auto piece = piece_of(c)) {
        std::memcpy(place.data(), piece->data() + (from - chunk.object_offset), place.size());
      } else if (!object->read(from, place)) {
        lost.push_back(c);
      }
    }
    if (!lost.empty()) return Error(Errc::kCorrupt, "the store lost bytes while they were read");
    return bytes;
  }

  std::uint64_t deadline = 0;  // number of its timer
  bool tried_again = false;    // after bytes were lost

 private:
  SharedBytes piece_of(std::uint32_t chunk) const {
    MutexLock lock(mu_);
    const auto found = pieces_.find(chunk);
    return found == pieces_.end() ? nullptr : found->second;
  }

  const std::shared_ptr<ImageState> image_;
  const std::uint32_t object_;
  const std::uint64_t offset_;
  const std::uint32_t length_;
  mutable Mutex mu_;
  std::map<std::uint32_t, SharedBytes> pieces_ IMSY_GUARDED_BY(mu_);
  std::size_t missing_ IMSY_GUARDED_BY(mu_) = 0;
  bool finished_ IMSY_GUARDED_BY(mu_) = false;
  Image::ReadDone done_ IMSY_GUARDED_BY(mu_);
};

using ReadingPtr = std::shared_ptr<Reading>;

// The reads of an image that wait, by number.
struct Readings {
  Mutex mu;
  std::map<std::uint64_t, ReadingPtr> open IMSY_GUARDED_BY(mu);
  std::uint64_t next IMSY_GUARDED_BY(mu) = 1;

  std::uint64_t add(const ReadingPtr& reading) {
    MutexLock lock(mu);
    open.emplace(next, reading);
    return next++;
  }
  ReadingPtr remove(std::uint64_t number) {
    MutexLock lock(mu);
    const auto found = open.find(number);
    if (found == open.end()) return nullptr;
    auto reading = std::move(found->second);
    open.erase(found);
    return reading;
  }
  std::map<std::uint64_t, ReadingPtr> take_all() {
    MutexLock lock(mu);
    return std::move(open);
  }
};

class AttachedImage final : public Image {
 public:
  AttachedImage(std::shared_ptr<FetchCore> core, std::shared_ptr<ImageState> state)
      : core_(std::move(core)),
        state_(std::move(state)),
        readings_(std::make_shared<Readings>()),
        fill_(std::make_shared<ImageFill>(core_, state_)) {}

  ~AttachedImage() override {
    state_->detached = true;
    fill_->end();
    for (const auto& [number, reading] : readings_->take_all()) {
      core_->queue().forget(reading->deadline);
      reading->finish(Error(Errc::kCancelled, "the image was detached"));
    }
  }

  const std::shared_ptr<const cdc::Manifest>& manifest() const override { return state_->manifest; }

  std::uint64_t read(std::uint32_t object, std::uint64_t offset, std::uint32_t length,
                     ReadDone done) override {
    const std::uint64_t size = state_->manifest->tree().object_size(object);
    if (offset >= size || length == 0) {
      done(Bytes());
      return 0;
    }
    length = static_cast<std::uint32_t>(std::min<std::uint64_t>({length, size - offset, kReadMax}));
    auto opened = state_->object(core_->store(), object);
    if (!opened) {
      done(opened.error());
      return 0;
    }
    auto missing = missing_chunks(**opened, object, offset, length);
    if (missing.empty()) {
      Bytes bytes(length);
      if ((*opened)->read(offset, bytes)) {
        done(std::move(bytes));
        return 0;
      }
      missing = missing_chunks(**opened, object, offset, length);
      if (missing.empty()) {
        done(Error(Errc::kInternal, "the store cannot read an object that it has"));
        return 0;
      }
    }
    return wait_for(missing,
                    std::make_shared<Reading>(state_, object, offset, length, std::move(done)),
                    object);
  }

  void cancel(std::uint64_t number) override {
    if (const auto reading = readings_->remove(number)) {
      core_->queue().forget(reading->deadline);
      reading->finish(Error(Errc::kCancelled, "the reader gave up"));
    }
  }

  void fill(std::function<void(Status)> done) override { fill_->start(std::move(done)); }
  FetchStats stats() const override { return state_->counters.read(); }
  const std::shared_ptr<ImageState>& state() const { return state_; }

 private:
  std::vector<std::uint32_t> missing_chunks(Object& opened, std::uint32_t object,
                                            std::uint64_t offset, std::uint32_t length) const {
    std::vector<std::uint32_t> missing;
    if (opened.complete()) return missing;
    const auto& objects = state_->objects();
    const std::uint32_t last = objects.chunk_at(object, offset + length - 1);
    for (std::uint32_t c = objects.chunk_at(object, offset); c <= last; ++c) {
      if (!opened.has_chunk(c - objects.first_chunk(object))) missing.push_back(c);
    }
    return missing;
  }

  std::uint64_t wait_for(const std::vector<std::uint32_t>& missing, const ReadingPtr& reading,
                         std::uint32_t object) {
    for (const std::uint32_t chunk : missing) reading->expect(chunk);
    const std::uint64_t number = readings_->add(reading);
    reading->deadline = core_->queue().at(
        WorkQueue::Clock::now() + core_->options().deadline, [readings = readings_, number] {
          if (const auto late = readings->remove(number)) {
            late->finish(Error(Errc::kTimeout, "the content did not arrive within the deadline"));
          }
        });
    ask(core_, state_, readings_, number, reading, object, missing);
    return number;
  }

  static void ask(const std::shared_ptr<FetchCore>& core, const std::shared_ptr<ImageState>& state,
                  const std::shared_ptr<Readings>& readings, std::uint64_t number,
                  const ReadingPtr& reading, std::uint32_t object,
                  const std::vector<std::uint32_t>& chunks) {
    for (const std::uint32_t chunk : chunks) {
      Want want;
      want.image = state;
      want.object = object;
      want.chunk = chunk;
      want.alive = [reading] { return reading->alive(); };
      want.done = [weak = std::weak_ptr(core), state, readings, number, reading, object,
                   chunk](const Result<SharedBytes>& raw) {
        const auto end = [&](Result<Bytes> result) {
          readings->remove(number);
          if (const auto alive = weak.lock()) alive->queue().forget(reading->deadline);
          reading->finish(std::move(result));
        };
        if (!raw) return end(raw.error());
        if (!reading->take(chunk, *raw)) return;
        const auto alive = weak.lock();
        if (alive == nullptr) return end(Error(Errc::kCancelled, "the fetcher is stopping"));
        std::vector<std::uint32_t> lost;
        auto bytes = reading->assemble(alive->store(), lost);
        if (bytes || lost.empty() || std::exchange(reading->tried_again, true)) {
          return end(std::move(bytes));
        }
        for (const std::uint32_t again : lost) reading->expect(again);
        ask(alive, state, readings, number, reading, object, lost);
      };
      core->want(std::move(want));
    }
  }

  const std::shared_ptr<FetchCore> core_;
  const std::shared_ptr<ImageState> state_;
  const std::shared_ptr<Readings> readings_;
  const std::shared_ptr<ImageFill> fill_;
};

class FetcherImpl final : public Fetcher {
 public:
  FetcherImpl(Store& store, const FetcherOptions& options)
      : core_(std::make_shared<FetchCore>(store, options)) {}
  ~FetcherImpl() override { core_->stop(); }

  std::shared_ptr<Image> attach(std::shared_ptr<const cdc::Manifest> manifest,
                                const cdc::Anchor& anchor, std::shared_ptr<BlobSource> source,
                                const std::string& trust_domain) override {
    return std::make_shared<AttachedImage>(
        core_,
        std::make_shared<ImageState>(std::move(manifest), anchor, std::move(source), trust_domain));
  }
  void set_source(Image& image, std::shared_ptr<BlobSource> source) override {
    dynamic_cast<AttachedImage&>(image).state()->set_source(std::move(source));
  }
  FetchStats stats() const override { return core_->stats(); }

 private:
  const std::shared_ptr<FetchCore> core_;
};

}  // namespace

std::unique_ptr<Fetcher> Fetcher::create(Store& store, const FetcherOptions& options) {
  return std::make_unique<FetcherImpl>(store, options);
}

}  // namespace imsy::cas
