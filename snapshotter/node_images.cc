#include "snapshotter/node_images.h"

#include <algorithm>
#include <utility>

#include "cas/source/registry_source.h"
#include "cas/sources.h"
#include "common/log.h"

namespace imsy::snapshotter {
namespace {

using Clock = std::chrono::steady_clock;

// Work under an image's lock that does not use the network ends soon; only a broken disk is slower.
constexpr std::chrono::seconds kLocalWait{30};
// Above the longest wait of Prepare, which may hold the lock.
constexpr std::chrono::seconds kReleaseWait{120};
constexpr std::chrono::seconds kLocateWait{20};
// For the answer of a registry whether an image that is here may be given to a pull.
constexpr std::chrono::seconds kAccessWait{5};
constexpr std::chrono::seconds kRepairWait{120};
// With several places to ask, none may use up all the time.
constexpr std::chrono::milliseconds kAskAtLeast{1'000};
// Of a manifest: times that all places are asked, and the pauses between them.
constexpr unsigned kFetchRounds = 6;
constexpr std::chrono::milliseconds kFirstPause{100};
constexpr std::chrono::milliseconds kLongestPause{2'000};
// What a snapshot's directories and rows need at most.
constexpr std::uint64_t kSnapshotRoom = 1u << 20;

// The time that the next of `left` places gets.
Deadline share_of(Deadline deadline, std::size_t left) {
  const auto now = Clock::now();
  const auto share = (deadline - now) / static_cast<std::int64_t>(std::max<std::size_t>(left, 1));
  return std::min(deadline, now + std::max<Clock::duration>(share, kAskAtLeast));
}

std::vector<Digest> diff_ids_of(const Digest& anchor_layer, const cdc::Anchor& anchor) {
  std::vector<Digest> diff_ids = {anchor_layer};
  for (const auto& layer : anchor.data_layers) diff_ids.push_back(layer.diff_id);
  return diff_ids;
}

// What a check of access is remembered by.
std::string name_of(const Digest& manifest, const PulledFrom& pull) {
  return manifest.to_string() + " " + (pull.config ? pull.config->to_string() : "") + " " +
         pull.name_space + "\n" + pull.image_ref;
}

std::string place_of(const Source& source) {
  return source.endpoint + "/" + source.repository;
}

Error stopping() {
  return Error(Errc::kCancelled, "imsy-snapshotter is stopping");
}

}  // namespace

// Holds the lock of the image while its snapshot is recorded.
class NodeImages::NodeAdmission final : public Admission {
 public:
  NodeAdmission(NodeImages& images, KeyedLocks::Held lock, ImageRecord record,
                std::optional<Fetched> fetched)
      : images_(images),
        lock_(std::move(lock)),
        record_(std::move(record)),
        fetched_(std::move(fetched)) {}

  ~NodeAdmission() override {
    if (fetched_ && !recorded_) images_.forget(record_.manifest);
  }

  const ImageRecord& image() const override { return record_; }

  void recorded(std::int64_t slot) override {
    recorded_ = true;
    if (!fetched_) return;
    record_.slot = slot;
    const Status remembered = images_.parts_.database.remember_source(slot, fetched_->source);
    if (!remembered) log::warn("image {}: {}", slot, remembered.error().message());
    const auto anchor = cdc::Anchor::parse(record_.anchor_text);
    const Status attached =
        anchor ? images_.attach(record_, *anchor, fetched_->manifest.manifest, fetched_->sources)
               : anchor.error();
    // The snapshot is committed all the same; the next who needs the tree tries again.
    if (!attached) log::error("image {} is not live yet: {}", slot, attached.error().message());
  }

 private:
  NodeImages& images_;
  const KeyedLocks::Held lock_;
  ImageRecord record_;
  std::optional<Fetched> fetched_;  // for a new image
  bool recorded_ = false;
};

NodeImages::~NodeImages() {
  stop();
}

void NodeImages::start() {
  submit_image_work([this] { reconcile(); });
}

void NodeImages::stop() {
  if (stop_.stop_requested()) return;
  stop_.request_stop();
  locks_.stop();
  std::unique_ptr<ThreadPool> images;
  std::unique_ptr<ThreadPool> locate;
  {
    MutexLock lock(mu_);
    images.swap(images_);
    locate.swap(locate_);
  }
  images.reset();
  locate.reset();
  write_recordings();
  note_trust_domains();
}

// --- a new image ---------------------------------------------------------------------------------

Result<std::unique_ptr<Admission>> NodeImages::admit(const Claim& claim,
                                                     const std::string& name_space,
                                                     Deadline deadline) {
  // Whoever wants the same image meanwhile waits here and then finds it.
  IMSY_TRY_ASSIGN(auto lock, locks_.lock(claim.anchor.manifest, deadline));
  IMSY_TRY_ASSIGN(const auto known, parts_.database.find_image(claim.anchor_layer));
  const PulledFrom pull{name_space, claim.config, claim.image_ref};
  if (known) {
    IMSY_TRY(may_give(*known, pull, deadline));
    return std::unique_ptr<Admission>(
        new NodeAdmission(*this, std::move(lock), *known, std::nullopt));
  }
  IMSY_TRY(parts_.tree.ensure());
  const ImageQuery query{.name_space = name_space,
                         .config = claim.config,
                         .image_ref = claim.image_ref,
                         .diff_ids = diff_ids_of(claim.anchor_layer, claim.anchor),
                         .data_blob = claim.anchor.data_layers.front().blob,
                         .remembered = {}};
  IMSY_TRY_ASSIGN(Fetched fetched, fetch(claim.anchor, query, deadline));
  IMSY_TRY(parts_.store.add_image(fetched.manifest.manifest, fetched.manifest.bytes,
                                  claim.anchor_text, fetched.trust_domain));
  fetched.manifest.bytes.clear();
  shown_.note(name_of(claim.anchor.manifest, pull));
  ImageRecord record;
  record.anchor_layer = claim.anchor_layer;
  record.anchor_text = claim.anchor_text;
  record.data_layers = static_cast<std::uint32_t>(claim.anchor.data_layers.size());
  record.manifest = claim.anchor.manifest;
  record.trust_domain = fetched.trust_domain;
  record.name_space = name_space;
  record.config = claim.config;
  return std::unique_ptr<Admission>(
      new NodeAdmission(*this, std::move(lock), std::move(record), std::move(fetched)));
}

Status NodeImages::may_give(const ImageRecord& image, const PulledFrom& pull, Deadline deadline) {
  const auto live = find_live(image.slot);
  // The one in use is ahead of the record.
  const std::string domain = live ? live->image->trust_domain() : image.trust_domain;
  if (domain.empty()) return {};
  const bool same_namespace = pull.name_space == image.name_space;
  if (!pull.config && pull.image_ref.empty()) {
    if (same_namespace) return {};
    return Error(Errc::kDenied,
                 "its content is private, and the pull does not say where it is from");
  }
  const std::string name = name_of(image.manifest, pull);
  if (shown_.has(name)) return {};
  const Status given = ask_for_access(image, pull, std::min(deadline, Clock::now() + kAccessWait));
  if (stop_.stop_requested()) return stopping();
  if (given) {
    shown_.note(name);
    return {};
  }
  if (same_namespace && cas::may_pass(given.error())) {
    shown_.note(name);  // the next layer need not wait as long
    log::warn("image {}: its registry cannot be asked whether it may be used again in {}: {}",
              image.manifest.to_string(), pull.name_space, given.error().message());
    return {};
  }
  return Error(Errc::kDenied, "its content is private: " + given.error().message());
}

Status NodeImages::ask_for_access(const ImageRecord& image, const PulledFrom& pull,
                                  Deadline deadline) {
  IMSY_TRY_ASSIGN(const cdc::Anchor anchor, cdc::Anchor::parse(image.anchor_text));
  const ImageQuery query{.name_space = pull.name_space,
                         .config = pull.config,
                         .image_ref = pull.image_ref,
                         .diff_ids = diff_ids_of(image.anchor_layer, anchor),
                         .data_blob = anchor.data_layers.front().blob,
                         .remembered = {}};
  IMSY_TRY_ASSIGN(auto sources, parts_.finder.find(query, deadline));
  IMSY_TRY_ASSIGN(const auto known, parts_.database.sources(image.slot));
  // Another registry may say what it likes of content that it does not have.
  std::erase_if(sources, [&](const Source& source) {
    return std::ranges::none_of(known, [&](const Source& one) {
      return one.host == source.host && one.repository == source.repository;
    });
  });
  if (sources.empty()) return Error(Errc::kDenied, "it came from another registry or repository");
  const cdc::Anchor::DataLayer& layer = anchor.data_layers[anchor.manifest_layer];
  std::optional<Error> failure;
  for (std::size_t i = 0; i < sources.size() && Clock::now() < deadline; ++i) {
    IMSY_TRY_ASSIGN(const auto registry, parts_.finder.open(sources[i]));
    const auto byte = read_range(*registry, layer.blob, layer.size, anchor.manifest_offset, 1,
                                 oci::Purpose::kLocate, share_of(deadline, sources.size() - i),
                                 stop_.get_token());
    if (byte) return {};
    const Error reason(byte.error().code(), place_of(sources[i]) + ": " + byte.error().message());
    // A refusal of one is not mended by another that is away.
    if (!failure || cas::may_pass(*failure)) failure = reason;
  }
  if (failure) return *failure;
  return Error(Errc::kTimeout, "the time was over before a registry could be asked");
}

// A server that is busy for a moment should not cost a pull its laziness; one that is away should
// not hold it up.
Result<NodeImages::Fetched> NodeImages::fetch(const cdc::Anchor& anchor, const ImageQuery& query,
                                              Deadline deadline) {
  IMSY_TRY_ASSIGN(const auto sources, parts_.finder.find(query, deadline));
  cas::Pauses pauses(kFirstPause, kLongestPause);
  std::string reasons;
  for (unsigned round = 0; round < kFetchRounds && Clock::now() < deadline; ++round) {
    reasons.clear();
    bool may_pass = false;
    for (std::size_t i = 0; i < sources.size() && Clock::now() < deadline; ++i) {
      auto fetched = fetch_from(sources[i], anchor, share_of(deadline, sources.size() - i));
      if (fetched) {
        fetched->sources = sources;
        return fetched;
      }
      if (stop_.stop_requested()) return stopping();
      may_pass = may_pass || cas::may_pass(fetched.error());
      reasons +=
          (reasons.empty() ? "" : "; ") + place_of(sources[i]) + ": " + fetched.error().message();
    }
    if (!may_pass) break;
    wait_until(std::min(deadline, Clock::now() + pauses.length(round)), stop_.get_token());
  }
  if (reasons.empty()) reasons = "the time was over before a registry could be asked";
  return Error(Errc::kUnavailable, "its CDC manifest cannot be fetched: " + reasons);
}

Result<NodeImages::Fetched> NodeImages::fetch_from(const Source& source, const cdc::Anchor& anchor,
                                                   Deadline deadline) {
  IMSY_TRY_ASSIGN(const auto registry, parts_.finder.open(source));
  IMSY_TRY_ASSIGN(auto manifest, fetch_manifest(*registry, anchor, deadline, stop_.get_token()));
  return Fetched{
      std::move(manifest), source, {}, trust_domain(*registry, parts_.database.node_secret())};
}

// What is kept of a manifest that no image in the database has goes: the store's record, and what
// was recorded.
void NodeImages::forget(const Digest& manifest) {
  const auto used = parts_.database.has_manifest(manifest);
  if (used && *used) return;
  Status removed = used ? parts_.store.remove_image(manifest) : Status(used.error());
  if (removed && parts_.profiles != nullptr) removed = parts_.profiles->remove(manifest);
  if (!removed) {
    log::error("image {} is kept until the next start: {}", manifest.to_string(),
               removed.error().message());
  }
}

// --- live images ---------------------------------------------------------------------------------

std::shared_ptr<NodeImages::Live> NodeImages::find_live(std::int64_t slot) const {
  MutexLock lock(mu_);
  const auto found = live_.find(slot);
  return found == live_.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<NodeImages::Live>> NodeImages::all_live() const {
  std::vector<std::shared_ptr<Live>> all;
  MutexLock lock(mu_);
  for (const auto& [slot, live] : live_) all.push_back(live);
  return all;
}

Status NodeImages::make_live(std::int64_t slot) {
  IMSY_TRY(parts_.tree.ensure());
  if (find_live(slot) != nullptr) return {};
  IMSY_TRY_ASSIGN(const ImageRecord expected, parts_.database.image(slot));
  const auto lock = locks_.lock(expected.manifest, Clock::now() + kLocalWait);
  if (!lock) return Error(Errc::kUnavailable, lock.error().message());
  if (find_live(slot) != nullptr) return {};
  // Under the lock once more: release() comes after the record is gone.
  IMSY_TRY_ASSIGN(const ImageRecord record, parts_.database.image(slot));
  auto manifest = parts_.store.load_image(record.manifest);
  if (!manifest) {
    const Errc code = manifest.error().code();
    if (code == Errc::kNotFound || code == Errc::kCorrupt || code == Errc::kInvalid) {
      repair_later(record);
    }
    return Error(Errc::kUnavailable, "image " + record.manifest.to_string() +
                                         " cannot be shown now: " + manifest.error().message());
  }
  IMSY_TRY_ASSIGN(const cdc::Anchor anchor, cdc::Anchor::parse(record.anchor_text));
  const auto remembered = parts_.database.sources(slot);
  return attach(record, anchor, std::move(*manifest),
                remembered ? *remembered : std::vector<Source>());
}

Status NodeImages::attach(const ImageRecord& record, const cdc::Anchor& anchor,
                          std::shared_ptr<const cdc::Manifest> manifest,
                          const std::vector<Source>& sources) {
  auto live = std::make_shared<Live>();
  live->record = record;
  live->trust_domain = record.trust_domain;
  const auto locate_later = [this, slot = record.slot](const cas::Located& located) {
    if (!submit_locate([this, slot, located] { locate(slot, located); })) located(stopping());
  };
  live->image = parts_.fetcher.attach(std::move(manifest), anchor, places(sources),
                                      record.trust_domain, locate_later);
  std::shared_ptr<cas::Image> shown = live->image;
  if (parts_.record_profiles && parts_.profiles != nullptr) {
    live->recorded = std::make_shared<RecordedImage>(
        live->image,
        [profiles = parts_.profiles, name = record.manifest] { return profiles->create(name); });
    shown = live->recorded;
  }
  // In the tree before it counts as live: others return to containerd upon that.
  IMSY_TRY(parts_.fs.add(static_cast<fuse::Slot>(record.slot), std::move(shown)));
  MutexLock lock(mu_);
  if (stop_.stop_requested()) {
    return Error(Errc::kUnavailable, "imsy-snapshotter is stopping");
  }
  live_[record.slot] = std::move(live);
  return {};
}

void NodeImages::detach(std::int64_t slot) {
  std::shared_ptr<Live> live;
  {
    MutexLock lock(mu_);
    const auto found = live_.find(slot);
    if (found == live_.end()) return;
    live = std::move(found->second);
    live_.erase(found);
  }
  parts_.fs.remove(static_cast<fuse::Slot>(slot));
  if (live->recorded != nullptr) live->recorded->stop();
  parts_.tree.forget_slot(static_cast<fuse::Slot>(slot));
}

Result<Owner> NodeImages::root_owner(std::int64_t slot) {
  IMSY_TRY(make_live(slot));
  const auto live = find_live(slot);
  if (live == nullptr) return Error(Errc::kUnavailable, "the image was removed");
  const cdc::Inode& root = live->image->manifest()->tree().inode(0);
  return Owner{root.uid, root.gid};
}

void NodeImages::complete(std::int64_t slot) {
  if (stop_.stop_requested()) return;
  submit_image_work([this, slot] {
    const Status live = make_live(slot);
    if (!live) {
      log::error("image {} is not live: {}", slot, live.error().message());
      return;
    }
    if (const auto found = find_live(slot)) fill(found);
  });
}

// What was dropped for want of room is fetched again only when somebody uses the image, and when
// there is room.
void NodeImages::use(std::int64_t slot) {
  if (stop_.stop_requested()) return;
  submit_image_work([this, slot] {
    const auto live = find_live(slot);
    if (live == nullptr) return;
    const bool shrunk = is_shrunk(live->record.manifest);
    const Status used = parts_.store.use_image(live->record.manifest);
    if (!used) log::warn("image {}: its use is not on record: {}", slot, used.error().message());
    if (!used || !shrunk || is_shrunk(live->record.manifest)) return;
    Filling done = Filling::kDone;
    live->filling.compare_exchange_strong(done, Filling::kNot);
    fill(live);
  });
}

bool NodeImages::make_room() {
  return parts_.store.try_room(kSnapshotRoom).has_value();
}

bool NodeImages::is_shrunk(const Digest& manifest) const {
  const auto shrunk = parts_.store.is_shrunk(manifest);
  return shrunk && *shrunk;
}

// Begins the fill if it stands at `from`.
void NodeImages::fill(const std::shared_ptr<Live>& live, Filling from) {
  if (!parts_.background_fill) return;
  if (!live->filling.compare_exchange_strong(from, Filling::kNow)) return;
  live->image->fill([weak = std::weak_ptr(live)](const Status& done) {
    const auto filled = weak.lock();
    if (filled == nullptr) return;
    filled->filling = done ? Filling::kDone : Filling::kNot;
    if (done) {
      log::info("image {} is resident", filled->record.manifest.to_string());
    } else if (done.error().code() != Errc::kCancelled) {
      log::error("image {} does not become resident: {}", filled->record.manifest.to_string(),
                 done.error().message());
    }
  });
}

void NodeImages::fill_what_was_lost() {
  for (const auto& live : all_live()) {
    if (live->filling != Filling::kDone) continue;
    const auto resident = parts_.store.is_resident(live->record.manifest);
    if (!resident || *resident) continue;
    if (is_shrunk(live->record.manifest)) {
      live->filling = Filling::kNot;
      continue;
    }
    log::warn("image {} has lost content, it is filled again", live->record.manifest.to_string());
    fill(live, Filling::kDone);
  }
}

void NodeImages::note_trust_domains() {
  for (const auto& live : all_live()) {
    const std::string domain = live->image->trust_domain();
    if (domain == live->trust_domain) continue;
    const Status noted = parts_.database.set_trust_domain(live->record.slot, domain);
    if (!noted) {
      log::warn("image {}: whose content it has is not on record: {}", live->record.slot,
                noted.error().message());
      continue;
    }
    live->trust_domain = domain;
  }
}

void NodeImages::write_recordings() {
  for (const auto& live : all_live()) {
    if (live->recorded != nullptr) live->recorded->write();
  }
}

void NodeImages::release(const ImageRecord& image) {
  if (stop_.stop_requested()) return;  // the next start finds what is left
  submit_image_work([this, image] {
    const auto lock = locks_.lock(image.manifest, Clock::now() + kReleaseWait);
    if (!lock) {
      log::error("image {} is not released before the next start: {}", image.manifest.to_string(),
                 lock.error().message());
      return;
    }
    detach(image.slot);
    forget(image.manifest);
  });
}

Result<NodeImages::ImageFacts> NodeImages::facts(std::int64_t slot) const {
  ImageFacts facts;
  IMSY_TRY_ASSIGN(facts.record, parts_.database.image(slot));
  IMSY_TRY_ASSIGN(facts.sources, parts_.database.sources(slot));
  IMSY_TRY_ASSIGN(facts.resident, parts_.store.is_resident(facts.record.manifest));
  facts.shrunk = is_shrunk(facts.record.manifest);
  if (const auto live = find_live(slot)) {
    facts.live = true;
    facts.filling = live->filling == Filling::kNow;
    facts.fetched = live->image->stats();
    facts.record.trust_domain = live->image->trust_domain();
  }
  return facts;
}

std::vector<NodeImages::ImageStats> NodeImages::stats() const {
  std::vector<ImageStats> stats;
  for (const auto& live : all_live()) {
    const auto resident = parts_.store.is_resident(live->record.manifest);
    stats.push_back({live->record.manifest, live->record.slot, resident && *resident,
                     live->image->manifest()->tree().object_count()});
  }
  return stats;
}

// --- where the content comes from ----------------------------------------------------------------

Result<ImageQuery> NodeImages::query_for(const ImageRecord& record) {
  IMSY_TRY_ASSIGN(const cdc::Anchor anchor, cdc::Anchor::parse(record.anchor_text));
  ImageQuery query{.name_space = record.name_space,
                   .config = record.config,
                   .image_ref = "",
                   .diff_ids = diff_ids_of(record.anchor_layer, anchor),
                   .data_blob = anchor.data_layers.front().blob,
                   .remembered = {}};
  IMSY_TRY_ASSIGN(query.remembered, parts_.database.sources(record.slot));
  return query;
}

std::shared_ptr<cas::BlobSource> NodeImages::place(const Source& source,
                                                   std::shared_ptr<oci::Registry> registry) const {
  // A cache for several registries may have the repositories of each.
  std::string name = place_of(source) + " for " + source.host;
  return cas::make_registry_source(
      std::move(name), std::move(registry),
      [secret = parts_.database.node_secret()](const oci::Registry& asked) {
        return trust_domain(asked, secret);
      });
}

// Without asking anybody.
cas::Places NodeImages::places(const std::vector<Source>& sources) const {
  cas::Places places;
  for (const Source& source : sources) {
    if (auto registry = parts_.finder.open(source)) {
      places.push_back(place(source, std::move(*registry)));
    }
  }
  return places;
}

// False once there is no pool any more.
bool NodeImages::submit_image_work(std::function<void()> task) {
  MutexLock lock(mu_);
  if (images_ == nullptr || stop_.stop_requested()) return false;
  images_->submit(std::move(task));
  return true;
}

bool NodeImages::submit_locate(std::function<void()> task) {
  MutexLock lock(mu_);
  if (locate_ == nullptr || stop_.stop_requested()) return false;
  locate_->submit(std::move(task));
  return true;
}

void NodeImages::locate(std::int64_t slot, const cas::Located& located) {
  auto places = locate_now(slot);
  if (!places && places.error().code() != Errc::kCancelled) {
    log::warn("image {}: {}", slot, places.error().message());
  }
  located(std::move(places));
}

// All places that may have the image: first those that answer for a byte of it, then those that may
// do so later.
Result<cas::Places> NodeImages::locate_now(std::int64_t slot) {
  const Deadline deadline = Clock::now() + kLocateWait;
  IMSY_TRY_ASSIGN(const ImageRecord record, parts_.database.image(slot));
  IMSY_TRY_ASSIGN(const cdc::Anchor anchor, cdc::Anchor::parse(record.anchor_text));
  IMSY_TRY_ASSIGN(const ImageQuery query, query_for(record));
  IMSY_TRY_ASSIGN(const auto sources, parts_.finder.find(query, deadline));
  const cdc::Anchor::DataLayer& layer = anchor.data_layers[anchor.manifest_layer];
  cas::Places places;
  cas::Places later;
  std::string reasons;
  for (std::size_t i = 0; i < sources.size() && Clock::now() < deadline; ++i) {
    if (stop_.stop_requested()) return stopping();
    IMSY_TRY_ASSIGN(auto registry, parts_.finder.open(sources[i]));
    const auto byte = read_range(*registry, layer.blob, layer.size, anchor.manifest_offset, 1,
                                 oci::Purpose::kLocate, share_of(deadline, sources.size() - i),
                                 stop_.get_token());
    if (!byte) {
      reasons +=
          (reasons.empty() ? "" : "; ") + place_of(sources[i]) + ": " + byte.error().message();
      if (cas::may_pass(byte.error())) later.push_back(place(sources[i], std::move(registry)));
      continue;
    }
    if (places.empty()) IMSY_TRY(parts_.database.remember_source(slot, sources[i]));
    places.push_back(place(sources[i], std::move(registry)));
  }
  if (places.empty()) {
    return Error(Errc::kUnavailable, "no registry has its content: " + reasons);
  }
  places.insert(places.end(), later.begin(), later.end());
  return places;
}

// --- after a crash -------------------------------------------------------------------------------

void NodeImages::reconcile() {
  const auto images = parts_.database.images();
  if (!images) {
    log::error("images are made live when they are needed: {}", images.error().message());
    return;
  }
  for (const ImageRecord& image : *images) {
    if (stop_.stop_requested()) return;
    const Status live = make_live(image.slot);
    const auto complete = parts_.database.is_complete(image.slot);
    if (!live && live.error().code() != Errc::kCancelled) {
      log::error("image {}: {}", image.slot, live.error().message());
    } else if (const auto found = find_live(image.slot);
               found && complete && *complete && !is_shrunk(image.manifest)) {
      fill(found);
    }
  }
  const auto stored = parts_.store.images();
  if (!stored) {
    log::error("the store is not compared with the database: {}", stored.error().message());
    return;
  }
  std::set<Digest> kept(stored->begin(), stored->end());
  if (parts_.profiles != nullptr) {
    const auto recorded = parts_.profiles->list();
    if (recorded) kept.insert(recorded->begin(), recorded->end());
  }
  for (const Digest& manifest : kept) {
    const auto lock = locks_.lock(manifest, Clock::now() + kReleaseWait);
    if (lock) forget(manifest);
  }
}

Status NodeImages::repair_manifest(const Digest& manifest) {
  IMSY_TRY_ASSIGN(const auto images, parts_.database.images());
  const auto found = std::ranges::find(images, manifest, &ImageRecord::manifest);
  if (found == images.end()) return Error(Errc::kNotFound, "no snapshot has this image");
  repair_later(*found);
  return {};
}

bool NodeImages::repairing() const {
  MutexLock lock(mu_);
  return !repairing_.empty();
}

void NodeImages::repair_later(const ImageRecord& record) {
  {
    MutexLock lock(mu_);
    if (stop_.stop_requested() || !repairing_.insert(record.slot).second) return;
  }
  const auto repair_now = [this, record] {
    const Status repaired = repair(record);
    if (repaired) {
      log::info("image {}: its CDC manifest was fetched again", record.slot);
    } else {
      log::error("image {} stays damaged: {}", record.slot, repaired.error().message());
    }
    MutexLock lock(mu_);
    repairing_.erase(record.slot);
  };
  if (submit_locate(repair_now)) return;
  MutexLock lock(mu_);
  repairing_.erase(record.slot);
}

Status NodeImages::repair(const ImageRecord& record) {
  IMSY_TRY_ASSIGN(const cdc::Anchor anchor, cdc::Anchor::parse(record.anchor_text));
  IMSY_TRY_ASSIGN(const ImageQuery query, query_for(record));
  IMSY_TRY_ASSIGN(const Fetched fetched, fetch(anchor, query, Clock::now() + kRepairWait));
  {
    IMSY_TRY_ASSIGN(const auto lock, locks_.lock(record.manifest, Clock::now() + kLocalWait));
    IMSY_TRY_ASSIGN(const bool wanted, parts_.database.has_manifest(record.manifest));
    if (!wanted) return {};
    IMSY_TRY(parts_.store.remove_image(record.manifest));
    IMSY_TRY(parts_.store.add_image(fetched.manifest.manifest, fetched.manifest.bytes,
                                    record.anchor_text, record.trust_domain));
  }
  IMSY_TRY(make_live(record.slot));
  IMSY_TRY_ASSIGN(const bool complete, parts_.database.is_complete(record.slot));
  if (const auto found = find_live(record.slot); found && complete) fill(found);
  return {};
}

}  // namespace imsy::snapshotter
