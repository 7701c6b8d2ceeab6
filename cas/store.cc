// On disk: docs/format/store.md.
#include "cas/store.h"

#include <fcntl.h>

#include <array>
#include <atomic>
#include <unordered_map>

#include "cas/checker.h"
#include "cas/cleaner.h"
#include "cas/image_file.h"
#include "cas/index.h"
#include "cas/layout.h"
#include "cas/object.h"
#include "cas/object_view.h"
#include "cas/read_only_store.h"
#include "cas/rebuild.h"
#include "common/log.h"
#include "common/mutex.h"

namespace imsy::cas {
namespace {

class LiveStore final : public Store {
 public:
  static Result<std::unique_ptr<Store>> open(const std::filesystem::path& root,
                                             const StoreOptions& options);

  Status add_image(const std::shared_ptr<const cdc::Manifest>& manifest, ByteSpan manifest_bytes,
                   const std::string& anchor_text, const std::string& trust_domain) override;
  Result<std::shared_ptr<const cdc::Manifest>> load_image(const Digest& manifest) override;
  Result<std::vector<Digest>> images() override;
  Status remove_image(const Digest& manifest) override;
  Status mark_resident(const cdc::Manifest& manifest) override;
  Result<bool> is_resident(const Digest& manifest) override;
  Result<bool> is_shrunk(const Digest& manifest) override { return index_->is_shrunk(manifest); }
  Status use_image(const Digest& manifest) override {
    IMSY_TRY_ASSIGN(const auto shrunk, index_->shrunk_size(manifest));
    if (shrunk) {
      IMSY_TRY_ASSIGN(const bool room, cleaner_->has_room(*shrunk));
      if (!room) return {};
    }
    return with_room(0, [&] { return index_->use_image(manifest); });
  }
  Status pin(const Digest& manifest, bool pinned) override {
    return with_room(0, [&] { return index_->pin(manifest, pinned); });
  }

  Result<std::shared_ptr<Object>> open_object(const cdc::Manifest& manifest, std::uint32_t object,
                                              const std::string& trust_domain) override;
  Status put_chunk(Object& object, std::uint32_t index, ByteSpan raw) override;
  Status try_room(std::uint64_t bytes) override {
    return with_room(bytes, [&]() -> Status {
      IMSY_TRY(cleaner_->may_write(bytes));
      return layout_.try_room(bytes);
    });
  }
  Result<std::optional<Bytes>> find_chunk(const cdc::Chunk& chunk,
                                          const std::string& trust_domain) override;
  std::vector<bool> likely_chunks(std::span<const cdc::Chunk> chunks,
                                  const std::string& trust_domain) override;
  Result<Collected> collect(Extent extent, std::uint64_t bytes) override {
    return cleaner_->collect(extent, bytes);
  }
  void set_closer(std::function<void()> close) override { cleaner_->set_closer(std::move(close)); }
  Result<StoreStats> stats() override;
  std::vector<Problem> problems() const override;
  Status set_limits(std::uint64_t quota_bytes, unsigned free_floor_percent) override;
  Result<CheckSummary> check(const CheckOptions& options, const CheckEvents& events,
                             const std::stop_token& stop) override;

 private:
  Status own_again(const Digest& manifest);
  // Runs `work`; when it finds no room, makes some, and runs it once more, while there is any.
  template <typename Work>
  Status with_room(std::uint64_t bytes, Work work, Extent extent = Extent::kShrink);
  Result<std::optional<std::uint64_t>> discard(const cdc::ObjectId& id, Layout::Discard how);
  Mutex& opening(const cdc::ObjectId& id) {
    return opening_[std::to_integer<std::size_t>(id.bytes()[0]) % opening_.size()];
  }
  LiveStore(Layout layout, const StoreOptions& options)
      : layout_(std::move(layout)), options_(options) {}
  Status start();
  Result<std::shared_ptr<StoredObject>> open_stored(const cdc::Manifest& manifest,
                                                    std::uint32_t object);
  std::shared_ptr<StoredObject> find_open(const cdc::ObjectId& id);
  void keep_open(const std::shared_ptr<StoredObject>& object);
  Result<Bytes> read_place(const Index::ChunkPlace& place, std::uint32_t size);

  // Constant after start(); synchronise themselves.
  Layout layout_;
  const StoreOptions options_;
  std::unique_ptr<Index> index_;
  std::atomic<bool> sync_failed_{false};

  Mutex images_mu_;  // one change of images at a time; held over the disk, before all others
  Mutex domains_mu_;
  std::unordered_map<Digest, std::string> domains_ IMSY_GUARDED_BY(domains_mu_);  // by image

  // One opens an object while others wait, so that there is one StoredObject for each. Held over
  // the disk; chosen by the id's first byte.
  std::array<Mutex, 64> opening_;
  Mutex open_mu_;
  std::unordered_map<cdc::ObjectId, std::weak_ptr<StoredObject>> open_ IMSY_GUARDED_BY(open_mu_);
  std::size_t sweep_at_ IMSY_GUARDED_BY(open_mu_) = 1024;  // size at which the dead are removed

  std::unique_ptr<Cleaner> cleaner_;  // last: its thread uses all of the above
};

Result<std::unique_ptr<Store>> LiveStore::open(const std::filesystem::path& root,
                                               const StoreOptions& options) {
  IMSY_TRY_ASSIGN(Layout layout, Layout::open(root, /*lock=*/true));
  std::unique_ptr<LiveStore> store(new LiveStore(std::move(layout), options));
  IMSY_TRY(store->start());
  return std::unique_ptr<Store>(std::move(store));
}

Status LiveStore::start() {
  IMSY_TRY_ASSIGN(Index::Opened opened, Index::open(layout_, options_.dedup_scope));
  index_ = std::move(opened.index);
  if (!opened.built) {
    IMSY_TRY(rebuild_index(layout_, *index_, opened));
  } else if (!opened.clean) {
    IMSY_TRY(adopt_files(layout_, *index_));
  }
  IMSY_TRY_ASSIGN(const auto images, index_->images());
  if (opened.built) IMSY_TRY(sweep_manifests(layout_, images));
  {
    MutexLock lock(domains_mu_);
    for (const auto& image : images) domains_[image.manifest] = image.trust_domain;
  }
  IMSY_TRY(index_->note_limits(options_));
  cleaner_ = std::make_unique<Cleaner>(
      layout_, *index_, options_,
      [this](const cdc::ObjectId& id, Layout::Discard how) { return discard(id, how); });
  return {};
}

template <typename Work>
Status LiveStore::with_room(std::uint64_t bytes, Work work, Extent extent) {
  for (;;) {
    const std::uint64_t before = cleaner_->rooms_made();
    const Status done = work();
    if (done || done.error().code() != Errc::kNoSpace) return done;
    if (!cleaner_->make_room(bytes, before, extent)) return done;
  }
}

// --- images

Status LiveStore::add_image(const std::shared_ptr<const cdc::Manifest>& manifest,
                            ByteSpan manifest_bytes, const std::string& anchor_text,
                            const std::string& trust_domain) {
  if (trust_domain == kSharedWithNobody) {
    return Error(Errc::kInvalid, "\"?\" is not a trust domain");
  }
  const Digest& digest = manifest->digest();
  MutexLock lock(images_mu_);
  std::string domain = trust_domain;
  {
    MutexLock domains_lock(domains_mu_);
    const auto known = domains_.find(digest);
    if (known != domains_.end()) domain = known->second;
  }
  // The file first: a file without a row is nothing, a row without a file would be a broken word.
  IMSY_TRY_ASSIGN(const Bytes file, write_image_file({anchor_text, domain, manifest_bytes}));
  IMSY_TRY(with_room(file.size(), [&] { return layout_.write_manifest(digest, file); }));
  IMSY_TRY(with_room(0, [&] {
    return index_->add_image({digest, anchor_text, domain}, *manifest);
  }));
  MutexLock domains_lock(domains_mu_);
  domains_[digest] = domain;
  return {};
}

Result<std::shared_ptr<const cdc::Manifest>> LiveStore::load_image(const Digest& manifest) {
  {
    MutexLock lock(domains_mu_);
    if (!domains_.contains(manifest)) {
      return Error(Errc::kNotFound, "image " + manifest.to_string() + " is not in the store");
    }
  }
  IMSY_TRY_ASSIGN(auto image, read_image(layout_, manifest));
  return std::move(image.manifest);
}

Result<std::vector<Digest>> LiveStore::images() {
  MutexLock lock(domains_mu_);
  std::vector<Digest> images;
  for (const auto& [manifest, domain] : domains_) images.push_back(manifest);
  return images;
}

Status LiveStore::remove_image(const Digest& manifest) {
  MutexLock lock(images_mu_);
  // The row first, for the same reason.
  IMSY_TRY(with_room(0, [&] { return index_->remove_image(manifest); }));
  {
    MutexLock domains_lock(domains_mu_);
    domains_.erase(manifest);
  }
  return layout_.remove_manifest(manifest);
}

Status LiveStore::mark_resident(const cdc::Manifest& manifest) {
  const auto sync = [&]() -> Status {
    const Error lost(Errc::kFailedPrecondition,
                     "store " + layout_.root().string() +
                         ": the disk failed to write, so nothing more can be promised until the "
                         "store is opened anew");
    if (sync_failed_) return lost;
    auto synced = layout_.sync();
    if (!synced) {
      sync_failed_ = true;
      log::error("{}: {}", lost.message(), synced.error().message());
    }
    return synced;
  };
  return with_room(0, [&] { return index_->mark_resident(manifest.digest(), sync); });
}

Result<bool> LiveStore::is_resident(const Digest& manifest) {
  return index_->is_resident(manifest);
}

// --- objects

std::shared_ptr<StoredObject> LiveStore::find_open(const cdc::ObjectId& id) {
  MutexLock lock(open_mu_);
  const auto found = open_.find(id);
  return found == open_.end() ? nullptr : found->second.lock();
}

void LiveStore::keep_open(const std::shared_ptr<StoredObject>& object) {
  MutexLock lock(open_mu_);
  open_[object->id()] = object;
  if (open_.size() < sweep_at_) return;
  std::erase_if(open_, [](const auto& entry) { return entry.second.expired(); });
  sweep_at_ = std::max<std::size_t>(1024, 2 * open_.size());
}

Result<std::shared_ptr<Object>> LiveStore::open_object(const cdc::Manifest& manifest,
                                                       std::uint32_t object,
                                                       const std::string& trust_domain) {
  if (object >= manifest.objects().count()) {
    return Error(Errc::kInvalid, "the image has no object " + std::to_string(object));
  }
  if (manifest.tree().object_size(object) == 0) {
    return std::shared_ptr<Object>(std::make_shared<EmptyObject>(manifest.objects().id(object)));
  }
  IMSY_TRY_ASSIGN(auto stored, open_stored(manifest, object));
  return std::shared_ptr<Object>(
      std::make_shared<ObjectView>(std::move(stored), trust_domain, options_.dedup_scope));
}

Result<std::shared_ptr<StoredObject>> LiveStore::open_stored(const cdc::Manifest& manifest,
                                                             std::uint32_t object) {
  const cdc::ObjectId& id = manifest.objects().id(object);
  if (auto open = find_open(id)) return open;
  MutexLock lock(opening(id));
  if (auto open = find_open(id)) return open;
  IMSY_TRY_ASSIGN(auto opened, StoredObject::open(layout_, *index_, manifest, object));
  keep_open(opened);
  return opened;
}

Status LiveStore::put_chunk(Object& object, std::uint32_t index, ByteSpan raw) {
  auto* view = dynamic_cast<ObjectView*>(&object);
  if (view == nullptr) return Error(Errc::kInvalid, "the empty object has no chunks");
  const auto put = [&]() -> Status {
    IMSY_TRY(cleaner_->may_write(raw.size()));
    IMSY_TRY(view->put(index, raw));
    cleaner_->add_put(raw.size());
    return {};
  };
  const Status done = put();
  if (done || done.error().code() != Errc::kNoSpace) return done;
  // What is read of a shrunk image shrinks no other one.
  const bool wanted = index_->is_wanted(object.id());
  return with_room(raw.size(), put, wanted ? Extent::kShrink : Extent::kUnwanted);
}

Result<std::optional<std::uint64_t>> LiveStore::discard(const cdc::ObjectId& id,
                                                        Layout::Discard how) {
  // Nobody opens it meanwhile.
  MutexLock lock(opening(id));
  if (find_open(id) != nullptr) return std::optional<std::uint64_t>();
  return discard_idle(layout_, *index_, id, how);
}

Result<Bytes> LiveStore::read_place(const Index::ChunkPlace& place, std::uint32_t size) {
  auto file = layout_.open_object(Place::kObjects, place.object, O_RDONLY);
  if (!file) file = layout_.open_object(Place::kPartial, place.object, O_RDONLY);
  if (!file) return file.error();
  Bytes bytes(size);
  IMSY_TRY(pread_all(file->get(), bytes, place.offset));
  return bytes;
}

Result<std::optional<Bytes>> LiveStore::find_chunk(const cdc::Chunk& chunk,
                                                   const std::string& trust_domain) {
  for (const auto& place : index_->find_chunk(chunk, trust_domain)) {
    auto bytes = read_place(place, chunk.size);
    if (bytes && sha256(*bytes) == chunk.digest) {
      index_->touch(place.object);
      return std::optional(std::move(*bytes));
    }
    // Out of descriptors or memory is no fault of the place.
    if (!bytes && bytes.error().code() == Errc::kUnavailable) return bytes.error();
    index_->drop_chunk(chunk.digest, place);
    if (const auto open = find_open(place.object)) {
      open->reject(place.offset);
    } else if (index_->standing_of(place.object).trust != Index::Trust::kIncomplete) {
      // Whoever opens it next will hash it.
      ignore(index_->distrust(place.object), "then it is found again");
    }
  }
  return std::optional<Bytes>();
}

std::vector<bool> LiveStore::likely_chunks(std::span<const cdc::Chunk> chunks,
                                           const std::string& trust_domain) {
  return index_->likely_chunks(chunks, trust_domain);
}

Status LiveStore::set_limits(std::uint64_t quota_bytes, unsigned free_floor_percent) {
  cleaner_->set_limits(quota_bytes, free_floor_percent);
  return index_->note_limits(
      {.quota_bytes = quota_bytes, .free_floor_percent = free_floor_percent});
}

std::vector<Store::Problem> LiveStore::problems() const {
  std::vector<Problem> found;
  if (sync_failed_) {
    found.push_back(
        {"the disk failed to write: no image becomes resident; check the disk, then "
         "restart",
         true});
  }
  if (index_->is_broken()) {
    found.push_back(
        {"the store's index is broken: chunks are not shared between images; restart", true});
  }
  if (index_->write_failed()) {
    found.push_back({"the store's index cannot be written: look for room on the disk", false});
  }
  return found;
}

Result<StoreStats> LiveStore::stats() {
  StoreStats stats;
  IMSY_TRY(index_->stats(stats));
  IMSY_TRY(add_file_stats(layout_, stats));
  return stats;
}

// --- checking

Result<CheckSummary> LiveStore::check(const CheckOptions& options, const CheckEvents& events,
                                      const std::stop_token& stop) {
  ignore(index_->flush(), "what cannot be written now is looked at with the queue");
  const Checker::Hands hands{
      .take_off = [this](const cdc::Manifest& manifest, std::uint32_t object,
                         std::span<const std::uint32_t> bad, std::string_view why) -> Status {
        IMSY_TRY_ASSIGN(const auto stored, open_stored(manifest, object));
        return stored->take_off(bad, why);
      },
      .discard = [this](const cdc::ObjectId& id) -> Result<bool> {
        IMSY_TRY_ASSIGN(const auto bytes, discard(id, Layout::Discard::kAtOnce));
        return bytes.has_value();
      },
      .is_open = [this](const cdc::ObjectId& id) { return find_open(id) != nullptr; },
      .own_again = [this](const Digest& manifest) { return own_again(manifest); },
  };
  return Checker(layout_, *index_, hands, options, events, stop).run();
}

// Makes the image the owner of its objects, and of nothing else.
Status LiveStore::own_again(const Digest& manifest) {
  MutexLock lock(images_mu_);
  {
    MutexLock domains_lock(domains_mu_);
    if (!domains_.contains(manifest)) return {};  // removed meanwhile
  }
  IMSY_TRY_ASSIGN(const StoredImage image, read_image(layout_, manifest));
  return index_->own_again({manifest, image.anchor_text, image.trust_domain}, *image.manifest);
}

}  // namespace

Result<std::unique_ptr<Store>> Store::open(const std::filesystem::path& root,
                                           const StoreOptions& options) {
  return options.read_only ? open_read_only(root) : LiveStore::open(root, options);
}

}  // namespace imsy::cas
