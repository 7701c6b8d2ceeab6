#include "snapshotter/snapshotter.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <future>

#include "common/io.h"
#include "common/log.h"
#include "snapshotter/own_directory.h"
#include "snapshotter/tree_walk.h"

namespace imsy::snapshotter {
namespace {

// containerd calls Commit inside its one write transaction, so measuring a layer must end.
constexpr std::chrono::seconds kMeasureAtCommit{10};
constexpr std::chrono::seconds kMeasureOnRequest{30};
// Longer keys are not containerd's.
constexpr std::size_t kKeyLimit = 4096;

Status check_key(const std::string& key) {
  if (key.empty()) return Error(Errc::kInvalid, "a snapshot key must not be empty");
  if (key.size() > kKeyLimit) return Error(Errc::kInvalid, "a snapshot key is too long");
  if (key.find('\0') != std::string::npos) {
    return Error(Errc::kInvalid, "a snapshot key contains a zero byte");
  }
  return {};
}

// mkdir with exactly this mode, whatever the umask, and owner.
Status make_one(const std::filesystem::path& path, mode_t mode, const Owner& owner = {}) {
  if (mkdir(path.c_str(), mode) != 0) {
    return Error::from_errno(errno, "make directory " + path.string());
  }
  if (lchown(path.c_str(), owner.uid, owner.gid) != 0) {
    return Error::from_errno(errno, "set the owner of " + path.string());
  }
  if (chmod(path.c_str(), mode) != 0) {
    return Error::from_errno(errno, "set the mode of " + path.string());
  }
  return {};
}

Result<Measured> measure(const std::filesystem::path& directory, std::chrono::seconds limit) {
  IMSY_TRY_ASSIGN(const Measured measured,
                  disk_usage(directory, std::chrono::steady_clock::now() + limit));
  if (!measured.complete) {
    log::warn("usage of {} is incomplete: it is too large, or it changed meanwhile",
              directory.string());
  }
  return measured;
}

Error lost_with_boot(const std::string& key) {
  return Error(Errc::kFailedPrecondition,
               "snapshot " + key +
                   " is volatile, and the machine was booted since: what the "
                   "container wrote may be lost in part; make it anew");
}

// The number that is a directory's name; nullopt when it is not one of ours.
std::optional<std::int64_t> number_of(const std::string& name) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool whole = error == std::errc() && end == name.data() + name.size();
  if (!whole || number <= 0 || name != std::to_string(number)) return std::nullopt;
  return number;
}

}  // namespace

Result<std::unique_ptr<Snapshotter>> Snapshotter::open(const Layout& layout, Database& database,
                                                       Images& images,
                                                       const SnapshotterOptions& options) {
  for (const char special : {':', ',', '\\'}) {
    if (layout.root().string().find(special) != std::string::npos) {
      return Error(Errc::kInvalid, "the root directory " + layout.root().string() +
                                       " must not contain '" + special +
                                       "': it becomes part of overlay options");
    }
  }
  IMSY_TRY(own_directory(layout.snapshots(), 0700));
  std::unique_ptr<Snapshotter> snapshotter(new Snapshotter(layout, database, images, options));
  IMSY_TRY(snapshotter->sweep());
  return snapshotter;
}

Snapshotter::~Snapshotter() {
  stop_.request_stop();
}

// Deletes directories that no snapshot has, and finds the numbers for new ones.
Status Snapshotter::sweep() {
  IMSY_TRY_ASSIGN(auto expected, database_.directories());
  std::int64_t largest = expected.empty() ? 0 : *expected.rbegin();
  std::error_code error;
  for (std::filesystem::directory_iterator it(layout_.snapshots(), error), end; it != end && !error;
       it.increment(error)) {
    const auto number = number_of(it->path().filename().string());
    if (!number) {
      log::warn("{} is not ours and is left alone", it->path().string());
      continue;
    }
    largest = std::max(largest, *number);
    if (expected.erase(*number) == 0) {
      log::info("deleting {}: no snapshot has it", it->path().string());
      delete_later(*number);
    }
  }
  if (error) return Error::from_errno(error.value(), "list " + layout_.snapshots().string());
  for (const std::int64_t number : expected) {
    log::error("{} is missing: the snapshot that it belongs to cannot be used",
               layout_.snapshot(number).string());
  }
  next_directory_ = largest + 1;
  return {};
}

// Runs `work`; when it finds no room, once more after content of images has given way.
template <typename Work>
std::invoke_result_t<Work> Snapshotter::with_room(Work work) {
  auto done = work();
  if (done || done.error().code() != Errc::kNoSpace || !images_.make_room()) return done;
  return work();
}

Result<std::vector<Mount>> Snapshotter::prepare(const PrepareRequest& request, Deadline deadline) {
  IMSY_TRY(check_key(request.key));
  const std::string ref(find_label(request.labels, label::kRef));
  std::string reason;
  const auto reused = reuse(request, deadline);
  const bool refused = !reused && reused.error().code() == Errc::kDenied;
  if (!reused && !refused && reused.error().code() != Errc::kCancelled) return reused.error();
  bool here = reused && *reused;
  if (!here && (!reused || has_claim(request.labels))) {
    const Status taken =
        reused ? with_room([&] { return take_lazily(request, deadline); }) : Status(reused.error());
    if (!taken && taken.error().code() == Errc::kCancelled) {
      return Error(Errc::kUnavailable, taken.error().message());
    }
    if (!taken) {
      reason = taken.error().message();
      log::warn("layer {} claims to be imsy's but is unpacked the ordinary way: {}", ref, reason);
    }
    here = taken.has_value();
  }
  if (here) return Error(Errc::kAlreadyExists, "layer " + ref + " is here already");
  return with_room([&] { return create(request, Kind::kActive, reason); });
}

Result<std::vector<Mount>> Snapshotter::view(const PrepareRequest& request) {
  IMSY_TRY(check_key(request.key));
  return with_room([&] { return create(request, Kind::kView); });
}

// Whether the layer is here, committed as part of an imsy image. Its content was proved to belong
// to this chainID, so labels that make a claim are needed again only to say where from it may be
// had, if not everybody may. kDenied: it is here, but not for this request.
Result<bool> Snapshotter::reuse(const PrepareRequest& request, Deadline deadline) {
  auto here = find_and_renew(request, deadline);
  // Removed by somebody else in between: it is not here any more.
  if (!here && here.error().code() == Errc::kNotFound) return false;
  return here;
}

Result<bool> Snapshotter::find_and_renew(const PrepareRequest& request, Deadline deadline) {
  const std::string ref(find_label(request.labels, label::kRef));
  if (ref.empty()) return false;
  IMSY_TRY_ASSIGN(const auto row, database_.find_image_snapshot(ref, request.parent));
  if (!row) return false;
  const auto config = Digest::parse(find_label(request.labels, label::kConfig));
  IMSY_TRY_ASSIGN(const ImageRecord image, database_.image(row->image->slot));
  IMSY_TRY_ASSIGN(const bool held, holds_data_of(request.parent, image.slot));
  if (!held) IMSY_TRY(may_give(image, request, deadline));
  // containerd looks for the snapshot by its label, which Update may have taken away.
  Labels missing = request.labels;
  for (const auto& [key, value] : row->info.labels) missing.erase(key);
  if (find_label(row->info.labels, label::kRef) != ref) missing[std::string(label::kRef)] = ref;
  std::erase_if(missing, [](const auto& pair) { return pair.second.empty(); });
  if (!missing.empty()) {
    IMSY_TRY(database_.update_labels(row->info.name, {.replace_all = false, .values = missing}));
  }
  if (config && has_claim(request.labels)) {
    if (image.config != *config || image.name_space != request.name_space) {
      IMSY_TRY(database_.touch_image(image.slot, request.name_space, *config));
    }
  }
  return true;
}

// Whoever has a data layer of an image was given the image: the rest of it need not be asked for,
// and could not be unpacked upon it.
Result<bool> Snapshotter::holds_data_of(const std::string& key, std::int64_t slot) {
  if (key.empty()) return false;
  IMSY_TRY_ASSIGN(const auto row, database_.find(key));
  return row->image && row->image->slot == slot && row->image->link > 0;
}

Status Snapshotter::may_give(const ImageRecord& image, const PrepareRequest& request,
                             Deadline deadline) {
  PulledFrom pull{request.name_space, std::nullopt, ""};
  // Who makes no claim has not said where the image is from, and must not wait for a registry.
  if (has_claim(request.labels)) {
    if (const auto config = Digest::parse(find_label(request.labels, label::kConfig))) {
      pull.config = *config;
    }
    pull.image_ref = find_label(request.labels, label::kImageRef);
  }
  return images_.may_give(image, pull, deadline);
}

// Proves the claim of the labels and commits the layer's snapshot. Any error: it cannot be done.
Status Snapshotter::take_lazily(const PrepareRequest& request, Deadline deadline) {
  IMSY_TRY_ASSIGN(const Claim claim, prove(request.labels));
  const log::Field image_field("image", claim.anchor.manifest.to_string());
  if ((claim.link == 0) != request.parent.empty()) {
    return Error(Errc::kCorrupt, "an anchor layer, and nothing else, stands on no parent");
  }
  if (claim.link > 0) {
    IMSY_TRY_ASSIGN(const Row parent, database_.get(request.parent));
    if (!parent.image) {
      return Error(Errc::kFailedPrecondition, "the layer below was unpacked the ordinary way");
    }
    IMSY_TRY_ASSIGN(const ImageRecord image, database_.image(parent.image->slot));
    if (image.anchor_layer != claim.anchor_layer || parent.image->link + 1 != claim.link) {
      return Error(Errc::kCorrupt, "the layer below is not the one that the anchor names");
    }
  }
  IMSY_TRY_ASSIGN(const auto admission, images_.admit(claim, request.name_space, deadline));
  IMSY_TRY_ASSIGN(const Row row, record(request, claim, admission->image()));
  admission->recorded(row.image->slot);
  if (claim.is_top()) images_.complete(row.image->slot);
  return {};
}

Result<Row> Snapshotter::record(const PrepareRequest& request, const Claim& claim,
                                const ImageRecord& image) {
  Database::NewImageSnapshot snapshot{image,          claim.link,     claim.chain_id,
                                      request.parent, request.labels, std::nullopt};
  if (claim.link == 0) {
    IMSY_TRY_ASSIGN(snapshot.directory, make_directory(Kind::kCommitted, {}));
  }
  auto row = database_.add_image_snapshot(snapshot);
  const bool used = row && row->directory == snapshot.directory;
  if (snapshot.directory && !used) delete_later(*snapshot.directory);
  return row;
}

Result<Below> Snapshotter::live_below(const std::vector<Layer>& chain) {
  IMSY_TRY_ASSIGN(Below found, below(layout_, chain));
  if (found.slot) IMSY_TRY(images_.make_live(*found.slot));
  return found;
}

// A layer that is being unpacked will be used by many, and long.
bool Snapshotter::wants_volatile(const PrepareRequest& request, Kind kind) const {
  const bool is_container = kind == Kind::kActive && !request.parent.empty() &&
                            find_label(request.labels, label::kRef).empty();
  const std::string_view asked = find_label(request.labels, label::kVolatile);
  return is_container && (asked.empty() ? options_.volatile_containers : asked != "false");
}

// The kernel marks the work directory of a volatile mount and refuses it from then on: it may have
// been in use when the machine crashed. We know better.
Status Snapshotter::reuse_volatile(const std::string& key, const Layer& own) const {
  if (own.volatile_boot != options_.boot_id) return lost_with_boot(key);
  const std::filesystem::path mark = layout_.work(*own.directory) / "work/incompat/volatile";
  const std::filesystem::path dirty = mark / "dirty";
  if ((unlink(dirty.c_str()) != 0 && errno != ENOENT) ||
      (rmdir(mark.c_str()) != 0 && errno != ENOENT)) {
    return Error::from_errno(errno, "remove " + mark.string());
  }
  return {};
}

Result<std::vector<Mount>> Snapshotter::create(const PrepareRequest& request, Kind kind,
                                               const std::string& reason) {
  Database::NewSnapshot snapshot{.key = request.key,
                                 .kind = kind,
                                 .parent = request.parent,
                                 .parent_id = std::nullopt,
                                 .labels = request.labels,
                                 .name_space = request.name_space,
                                 .reason = reason,
                                 .volatile_boot = ""};
  if (wants_volatile(request, kind)) snapshot.volatile_boot = options_.boot_id;
  Below found;
  if (!request.parent.empty()) {
    auto chain = database_.chain(request.parent);
    if (!chain) return chain.error().with_context("parent");
    if (chain->front().kind != Kind::kCommitted) {
      return Error(Errc::kInvalid, "parent snapshot " + request.parent + " is not committed");
    }
    snapshot.parent_id = chain->front().id;
    IMSY_TRY_ASSIGN(found, live_below(*chain));
    snapshot.mount = found.kind;
  }
  IMSY_TRY_ASSIGN(const Owner owner, owner_over(request.labels, found));
  IMSY_TRY_ASSIGN(snapshot.directory, make_directory(kind, owner));
  const Status created = database_.create(snapshot);
  if (!created) {
    delete_later(snapshot.directory);
    return created.error();
  }
  if (found.slot) images_.use(*found.slot);
  return mounts_for(layout_, overlay_, snapshot.directory, kind, found,
                    !snapshot.volatile_boot.empty());
}

// A merged root has the owner of its upper directory, so that one gets the owner of the root below,
// or that of the container's own root user.
Result<Owner> Snapshotter::owner_over(const Labels& labels, const Below& below) {
  const auto uid = mapped_root(find_label(labels, label::kUidMapping));
  const auto gid = mapped_root(find_label(labels, label::kGidMapping));
  if (uid && gid) return Owner{*uid, *gid};
  if (below.directories.empty()) return Owner{};
  if (below.slot && below.directories.size() == 1) return images_.root_owner(*below.slot);
  struct stat st = {};
  if (lstat(below.directories.front().c_str(), &st) != 0) {
    return Error::from_errno(errno, "stat " + below.directories.front());
  }
  return Owner{st.st_uid, st.st_gid};
}

// The directory of a new snapshot, durable.
Result<std::int64_t> Snapshotter::make_directory(Kind kind, const Owner& owner) {
  const std::int64_t number = next_directory_.fetch_add(1);
  const auto make = [&]() -> Status {
    IMSY_TRY(make_one(layout_.snapshot(number), 0700));
    IMSY_TRY(make_one(layout_.fs(number), 0755, owner));
    if (kind == Kind::kActive) IMSY_TRY(make_one(layout_.work(number), 0711));
    IMSY_TRY(sync_directory(layout_.snapshot(number)));
    return sync_directory(layout_.snapshots());
  };
  const Status made = make();
  if (made) return number;
  delete_later(number);
  return made.error();
}

Result<std::vector<Mount>> Snapshotter::mounts(const std::string& key) {
  IMSY_TRY(check_key(key));
  IMSY_TRY_ASSIGN(const auto chain, database_.chain(key));
  const Layer& own = chain.front();
  if (own.kind == Kind::kCommitted) {
    return Error(Errc::kFailedPrecondition,
                 "snapshot " + key + " is committed: only active ones and views have mounts");
  }
  IMSY_TRY_ASSIGN(const Below found, live_below({chain.begin() + 1, chain.end()}));
  if (!own.volatile_boot.empty()) IMSY_TRY(reuse_volatile(key, own));
  return mounts_for(layout_, overlay_, *own.directory, own.kind, found, !own.volatile_boot.empty());
}

// Others will stand on what was written without a sync.
Status Snapshotter::make_durable(const std::string& key, const Row& row) const {
  if (row.volatile_boot != options_.boot_id) return lost_with_boot(key);
  IMSY_TRY_ASSIGN(const UniqueFd directory,
                  open_file(layout_.fs(*row.directory), O_RDONLY | O_DIRECTORY));
  if (syncfs(directory.get()) != 0) return Error::from_errno(errno, "sync snapshot " + key);
  return {};
}

Status Snapshotter::commit(const std::string& key, const std::string& name, const Labels& labels,
                           const std::string& parent) {
  IMSY_TRY(check_key(key));
  IMSY_TRY(check_key(name));
  Usage usage;
  if (const auto row = database_.get(key); row && row->info.kind == Kind::kActive) {
    if (!row->volatile_boot.empty()) IMSY_TRY(make_durable(key, *row));
    IMSY_TRY_ASSIGN(const Measured measured,
                    measure(layout_.fs(*row->directory), kMeasureAtCommit));
    usage = measured.usage;
  }
  // What cannot be committed is refused here, in the order that containerd expects.
  return database_.commit(key, name, labels, parent, usage);
}

Status Snapshotter::remove(const std::string& key) {
  IMSY_TRY(check_key(key));
  IMSY_TRY_ASSIGN(const auto removed, database_.remove(key));
  if (removed.directory) delete_later(*removed.directory);
  if (removed.image) images_.release(*removed.image);
  return {};
}

void Snapshotter::delete_later(std::int64_t directory) {
  sweeper_.submit([this, path = layout_.snapshot(directory)] {
    const Status removed = remove_tree(path, stop_.get_token());
    if (!removed && removed.error().code() != Errc::kCancelled) {
      log::error("cannot delete {}: {}; it is tried again at the next start", path.string(),
                 removed.error().message());
    }
  });
}

Status Snapshotter::cleanup(Deadline deadline) {
  auto done = std::make_shared<std::promise<void>>();
  auto reached = done->get_future();
  sweeper_.submit([done] { done->set_value(); });
  if (reached.wait_until(deadline) == std::future_status::ready) return {};
  return Error(Errc::kTimeout, "directories of removed snapshots are still being deleted");
}

Result<std::vector<Explained>> Snapshotter::explain(const std::string& name) {
  IMSY_TRY(check_key(name));
  IMSY_TRY_ASSIGN(const auto keys, database_.find_keys(name));
  std::vector<Explained> all;
  for (const std::string& key : keys) {
    Explained one;
    IMSY_TRY_ASSIGN(one.row, database_.get(key));
    for (std::string above = one.row.info.parent; !above.empty();) {
      IMSY_TRY_ASSIGN(Row parent, database_.get(above));
      above = parent.info.parent;
      one.parents.push_back(std::move(parent));
    }
    all.push_back(std::move(one));
  }
  return all;
}

Result<Info> Snapshotter::stat(const std::string& key) {
  IMSY_TRY(check_key(key));
  IMSY_TRY_ASSIGN(Row row, database_.get(key));
  return std::move(row.info);
}

std::optional<Info> Snapshotter::known_info(const std::string& key) const {
  const auto row = database_.known(key);
  if (row == nullptr) return std::nullopt;
  return row->info;
}

std::optional<Usage> Snapshotter::known_usage(const std::string& key) const {
  const auto row = database_.known(key);
  if (row == nullptr || row->info.kind == Kind::kActive) return std::nullopt;
  return row->usage;
}

Result<Info> Snapshotter::update(const UpdateRequest& request) {
  IMSY_TRY(check_key(request.key));
  Database::LabelUpdate update;
  update.replace_all = request.mask.empty();
  for (const std::string& path : request.mask) {
    constexpr std::string_view kPrefix = "labels.";
    if (path == "labels") {
      update.replace_all = true;
    } else if (path.starts_with(kPrefix) && path.size() > kPrefix.size()) {
      const std::string key = path.substr(kPrefix.size());
      update.values[key] = find_label(request.labels, key);
    } else {
      return Error(Errc::kInvalid, "cannot update " + path + " of a snapshot, only labels");
    }
  }
  if (update.replace_all) update.values = request.labels;
  return database_.update_labels(request.key, update);
}

Result<std::vector<Info>> Snapshotter::list(const std::vector<std::string>& filters) {
  IMSY_TRY_ASSIGN(const Filter filter, Filter::parse(filters));
  return database_.list(filter);
}

Result<Usage> Snapshotter::usage(const std::string& key) {
  IMSY_TRY(check_key(key));
  IMSY_TRY_ASSIGN(const Row row, database_.get(key));
  if (row.info.kind != Kind::kActive) return row.usage;
  auto measured = measure(layout_.fs(*row.directory), kMeasureOnRequest);
  if (measured) return measured->usage;
  // Committed or removed while it was measured?
  IMSY_TRY_ASSIGN(const Row now, database_.get(key));
  if (now.info.kind != Kind::kActive) return now.usage;
  return measured.error();
}

}  // namespace imsy::snapshotter
