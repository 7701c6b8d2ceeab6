#include "cas/cleaner.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "common/thread_pool.h"

namespace imsy::cas {
namespace {

constexpr std::chrono::seconds kLookEvery{10};
constexpr std::chrono::seconds kTrashAge{60};
constexpr std::chrono::seconds kTryAgain{1};
// Room is made for more than the one who asks, so that not everybody has to.
constexpr std::uint64_t kRoomBytes = 16u << 20;
constexpr std::uint64_t kRoomFiles = 256;
constexpr std::size_t kVictimBatch = 16'384;  // objects
// Hints of objects that are gone cost room only, and finding them a pass over all.
constexpr std::chrono::hours kSweepEvery{1};

// Of the floor, what is left to others than the store.
constexpr unsigned kReserved = 4;
// may_write() looks at least so often.
constexpr std::chrono::seconds kLookAtDisk{1};
constexpr std::uint64_t kMostBetween = 64u << 20;  // bytes
// What a put takes beside its bytes; and that is left without a floor, too.
constexpr std::uint64_t kPutOverhead = 4096;
constexpr std::uint64_t kLeastBytes = 16u << 20;  // the logs of two databases, and more
constexpr std::uint64_t kLeastFiles = 16;

// What lacks until `floor` percent of `total` are free, and one percent more, so that it is not
// reached again at once.
std::uint64_t below_floor(std::uint64_t total, std::uint64_t free, unsigned floor) {
  if (free >= total / 100 * floor) return 0;
  return total / 100 * (floor + 1) - free;
}

}  // namespace

Result<std::optional<std::uint64_t>> discard_idle(const Layout& layout, Index& index,
                                                  const cdc::ObjectId& object,
                                                  Layout::Discard how) {
  std::uint64_t bytes = 0;
  IMSY_TRY_ASSIGN(const bool gone, index.remove_idle(object, [&]() -> Status {
    IMSY_TRY_ASSIGN(bytes, layout.discard_object(object, how));
    return {};
  }));
  return gone ? std::optional(bytes) : std::nullopt;
}

Cleaner::Cleaner(const Layout& layout, Index& index, const StoreOptions& limits, Discard discard)
    : layout_(layout),
      index_(index),
      quota_bytes_(limits.quota_bytes),
      free_floor_percent_(limits.free_floor_percent),
      discard_(std::move(discard)) {
  {
    MutexLock lock(mu_);
    if (const Status emptied = empty_trash(); !emptied) {
      log::warn("store {}: {}", layout_.root().string(), emptied.error().message());
    }
  }
  if (limits.keep_limits) {
    thread_ = std::thread([this] { run(); });
  }
}

Cleaner::~Cleaner() {
  {
    MutexLock lock(stop_mu_);
    stopping_ = true;
  }
  stop_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Cleaner::run() {
  name_this_thread("store-clean");
  bool failing = false;
  for (;;) {
    const Status kept = keep_limits();
    if (!kept && !std::exchange(failing, true)) {
      log::warn("store {}: its limits cannot be kept: {}", layout_.root().string(),
                kept.error().message());
    }
    if (kept) failing = false;
    MutexLock lock(stop_mu_);
    const auto until = Clock::now() + kLookEvery;
    while (!stopping_ && stop_.wait_until(stop_mu_, until)) {
    }
    if (stopping_) return;
  }
}

Status Cleaner::keep_limits() {
  MutexLock lock(mu_);
  IMSY_TRY_ASSIGN(Need need, lacking());
  // What lies in the trash is as good as free.
  need.bytes -= std::min(need.bytes, trash_.bytes);
  need.files -= std::min(need.files, trash_.objects);
  IMSY_TRY_ASSIGN(const Collected done,
                  free_up(need, Store::Extent::kShrink, Layout::Discard::kToTrash));
  if (done.objects > 0) {
    log::info("store {}: {} objects of {} bytes gave way to its limits", layout_.root().string(),
              done.objects, done.bytes);
    trash_.objects += done.objects;
    trash_.bytes += done.bytes;
    trash_since_ = Clock::now();
  }
  if (stale_ && Clock::now() >= next_sweep_) IMSY_TRY(sweep());
  if (trash_.objects == 0 || Clock::now() < trash_since_ + kTrashAge) return {};
  return empty_trash();
}

void Cleaner::set_limits(std::uint64_t quota_bytes, unsigned free_floor_percent) {
  quota_bytes_ = quota_bytes;
  free_floor_percent_ = free_floor_percent;
}

Result<Cleaner::Need> Cleaner::lacking() {
  const std::uint64_t quota_bytes = quota_bytes_;
  const unsigned free_floor_percent = free_floor_percent_;
  Need need;
  if (free_floor_percent > 0) {
    IMSY_TRY_ASSIGN(const Layout::FreeSpace space, layout_.free_space());
    need.bytes = below_floor(space.bytes, space.free_bytes, free_floor_percent);
    need.files = below_floor(space.files, space.free_files, free_floor_percent);
  }
  if (quota_bytes > 0) {
    if (!counted_ || used() > quota_bytes) IMSY_TRY(count());
    need.bytes = std::max(need.bytes, used() - std::min(used(), quota_bytes));
  }
  return need;
}

Result<bool> Cleaner::has_room(const Collected& more) {
  const std::uint64_t quota_bytes = quota_bytes_;
  const unsigned free_floor_percent = free_floor_percent_;
  if (quota_bytes == 0 && free_floor_percent == 0) return true;
  MutexLock lock(mu_);
  IMSY_TRY_ASSIGN(Collected idle, index_.unowned());
  idle.objects += trash_.objects;
  idle.bytes += trash_.bytes;
  if (free_floor_percent > 0) {
    IMSY_TRY_ASSIGN(const Layout::FreeSpace space, layout_.free_space());
    const auto stays_free = [&](std::uint64_t total, std::uint64_t free, std::uint64_t taken) {
      return taken <= free && below_floor(total, free - taken, free_floor_percent) == 0;
    };
    if (!stays_free(space.bytes, space.free_bytes + idle.bytes, more.bytes)) return false;
    const bool counts_files = space.files > 0;
    if (counts_files && !stays_free(space.files, space.free_files + idle.objects, more.objects)) {
      return false;
    }
  }
  if (quota_bytes == 0) return true;
  if (!counted_) IMSY_TRY(count());
  return used() - std::min(used(), idle.bytes) + more.bytes <= quota_bytes;
}

Status Cleaner::count() {
  // First: what comes meanwhile may be counted twice, but not left out.
  put_ = 0;
  IMSY_TRY_ASSIGN(std::uint64_t bytes, index_.object_bytes());
  IMSY_TRY(layout_.each_object(Place::kPartial,
                               [&](const Layout::ObjectFile& file) { bytes += file.allocated; }));
  counted_ = bytes;
  return {};
}

// At most so many bytes.
std::uint64_t Cleaner::used() const {
  return counted_.value_or(0) + put_ + trash_.bytes;
}

// What is left to others, and to the index: without a page of its own nothing can be shrunk.
std::uint64_t Cleaner::reserved(std::uint64_t total, std::uint64_t least) const {
  return std::max(total / 100 * free_floor_percent_ / kReserved, std::min(least, total / 8));
}

// What lacks to put so many bytes, as far as the file system says.
Cleaner::Need Cleaner::lacking_for(std::uint64_t bytes) const {
  Need need{.bytes = std::max(bytes, kRoomBytes), .files = kRoomFiles};
  const auto space = layout_.free_space();
  if (!space) return need;
  if (space->free_bytes >= reserved(space->bytes, kLeastBytes) + need.bytes) need.bytes = 0;
  const bool files =
      space->files == 0 || space->free_files >= reserved(space->files, kLeastFiles) + need.files;
  if (files) need.files = 0;
  return need;
}

Status Cleaner::may_write(std::uint64_t bytes) {
  const auto size = static_cast<std::int64_t>(bytes + kPutOverhead);
  if (allowance_.fetch_sub(size) > size && Clock::now() < look_again_.load()) return {};
  IMSY_TRY_ASSIGN(const Layout::FreeSpace space, layout_.free_space());
  const std::uint64_t kept_bytes = reserved(space.bytes, kLeastBytes) + bytes;
  const std::uint64_t kept_files = reserved(space.files, kLeastFiles);
  const bool lacks_files = space.files > 0 && space.free_files <= kept_files;
  if (lacks_files || space.free_bytes <= kept_bytes) {
    allowance_ = 0;
    return Error(Errc::kNoSpace, "store " + layout_.root().string() + ": only " +
                                     std::to_string(space.free_bytes) + " bytes and " +
                                     std::to_string(space.free_files) +
                                     " files are free, which are left to others");
  }
  // Not all of it at once, since others write, too.
  std::uint64_t left = std::min((space.free_bytes - kept_bytes) / 2, kMostBetween);
  if (space.files > 0) left = std::min(left, (space.free_files - kept_files) / 2 * kPutOverhead);
  allowance_ = static_cast<std::int64_t>(left);
  look_again_ = Clock::now() + kLookAtDisk;
  return {};
}

Result<Collected> Cleaner::collect(Store::Extent extent, std::uint64_t bytes) {
  MutexLock lock(mu_);
  IMSY_TRY(empty_trash());
  IMSY_TRY_ASSIGN(const Collected done, free_up({bytes, 0}, extent, Layout::Discard::kAtOnce));
  IMSY_TRY(sweep());
  return done;
}

bool Cleaner::make_room(std::uint64_t bytes, std::uint64_t before, Store::Extent extent) {
  MutexLock lock(mu_);
  if (rooms_made_ != before) return true;
  if (trash_.objects > 0) {
    if (!empty_trash()) return false;
  } else {
    auto& try_again = try_again_[static_cast<std::size_t>(extent)];
    if (Clock::now() < try_again) return false;
    Need need = lacking_for(bytes);
    if (need.bytes == 0 && need.files == 0) {
      // A fault of a moment, or a limit that is not the file system's: no reason to shrink images.
      need.bytes = std::max(bytes, kRoomBytes);
      extent = std::min(extent, Store::Extent::kUnwanted);
    }
    const auto done = free_up(need, extent, Layout::Discard::kAtOnce);
    if (!done || done->objects == 0) {
      try_again = Clock::now() + kTryAgain;
      return false;
    }
  }
  ++rooms_made_;
  look_again_ = Clock::time_point::min();
  return true;
}

Result<Collected> Cleaner::free_up(const Need& need, Store::Extent extent, Layout::Discard how) {
  Collected done;
  IMSY_TRY(discard_objects(Index::Idle::kUnowned, need, how, done));
  while (extent != Store::Extent::kUnowned && !need.met_by(done)) {
    IMSY_TRY(discard_objects(Index::Idle::kUnwanted, need, how, done));
    if (extent == Store::Extent::kUnwanted || need.met_by(done)) break;
    IMSY_TRY_ASSIGN(const auto shrunk, index_.shrink_next());
    if (!shrunk) break;
    log::info(
        "store {}: image {} is shrunk for want of room: what gives way of it is fetched when "
        "it is read",
        layout_.root().string(), shrunk->to_string());
  }
  return done;
}

// Adds to `done` what went.
Status Cleaner::discard_objects(Index::Idle which, const Need& need, Layout::Discard how,
                                Collected& done) {
  std::size_t kept = 0;  // most often because they are open
  bool closed = false;
  while (!need.met_by(done)) {
    IMSY_TRY_ASSIGN(const auto victims, index_.idle_objects(which, kVictimBatch, kept));
    if (victims.empty() && (kept == 0 || std::exchange(closed, true))) break;
    if (victims.empty()) {
      close_idle();
      kept = 0;
    }
    IMSY_TRY_ASSIGN(const std::size_t stay, discard_batch(victims, need, how, done));
    kept += stay;
  }
  return {};
}

// How many of them stay.
Result<std::size_t> Cleaner::discard_batch(const std::vector<Index::ObjectRow>& victims,
                                           const Need& need, Layout::Discard how, Collected& done) {
  std::size_t stay = 0;
  for (const Index::ObjectRow& victim : victims) {
    if (need.met_by(done)) break;
    IMSY_TRY_ASSIGN(const auto bytes, discard_(victim.id, how));
    if (!bytes) {
      ++stay;
      continue;
    }
    ++done.objects;
    done.bytes += *bytes;
    if (counted_) *counted_ -= std::min(*counted_, *bytes);
    stale_ = true;
  }
  return stay;
}

void Cleaner::set_closer(std::function<void()> close) {
  MutexLock lock(closer_mu_);
  closer_ = std::move(close);
}

void Cleaner::close_idle() {
  MutexLock lock(closer_mu_);
  if (closer_) closer_();
}

Status Cleaner::sweep() {
  IMSY_TRY(index_.drop_stale_chunks());
  stale_ = false;
  next_sweep_ = Clock::now() + kSweepEvery;
  return {};
}

Status Cleaner::empty_trash() {
  IMSY_TRY(layout_.empty_trash());
  trash_ = Collected();
  return {};
}

}  // namespace imsy::cas
