#include "cas/cleaner.h"

#include <algorithm>
#include <limits>
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
constexpr std::size_t kBatch = 16'384;  // objects
// Hints of objects that are gone cost room only, and finding them a pass over all.
constexpr std::chrono::hours kSweepEvery{1};

// What lacks until `floor` percent of `total` are free, and one percent more, so that it is not
// reached again at once.
std::uint64_t below_floor(std::uint64_t total, std::uint64_t free, unsigned floor) {
  if (free >= total / 100 * floor) return 0;
  return total / 100 * (floor + 1) - free;
}

}  // namespace

Cleaner::Cleaner(const Layout& layout, Index& index, const StoreOptions& limits, Discard discard)
    : layout_(layout), index_(index), limits_(limits), discard_(std::move(discard)) {
  {
    MutexLock lock(mu_);
    if (const Status emptied = empty_trash(); !emptied) {
      log::warn("store {}: {}", layout_.root().string(), emptied.error().message());
    }
  }
  if (limits_.quota_bytes > 0 || limits_.free_floor_percent > 0) {
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
  IMSY_TRY_ASSIGN(const Collected done, discard_objects(need, Layout::Discard::kToTrash));
  if (done.objects > 0) {
    log::info("store {}: {} objects of {} bytes that no image owns gave way",
              layout_.root().string(), done.objects, done.bytes);
    trash_.objects += done.objects;
    trash_.bytes += done.bytes;
    trash_since_ = Clock::now();
  }
  if (stale_ && Clock::now() >= next_sweep_) IMSY_TRY(sweep());
  if (trash_.objects == 0 || Clock::now() < trash_since_ + kTrashAge) return {};
  return empty_trash();
}

Result<Cleaner::Need> Cleaner::lacking() {
  Need need;
  if (limits_.free_floor_percent > 0) {
    IMSY_TRY_ASSIGN(const Layout::FreeSpace space, layout_.free_space());
    need.bytes = below_floor(space.bytes, space.free_bytes, limits_.free_floor_percent);
    need.files = below_floor(space.files, space.free_files, limits_.free_floor_percent);
  }
  if (limits_.quota_bytes > 0) {
    IMSY_TRY_ASSIGN(std::uint64_t used, index_.object_bytes());
    IMSY_TRY(layout_.each_object(Place::kPartial,
                                 [&](const Layout::ObjectFile& file) { used += file.allocated; }));
    used += trash_.bytes;
    need.bytes = std::max(need.bytes, used - std::min(used, limits_.quota_bytes));
  }
  return need;
}

Result<Collected> Cleaner::collect_all() {
  MutexLock lock(mu_);
  constexpr std::uint64_t kAll = std::numeric_limits<std::uint64_t>::max();
  IMSY_TRY(empty_trash());
  IMSY_TRY_ASSIGN(const Collected done, discard_objects({kAll, kAll}, Layout::Discard::kAtOnce));
  IMSY_TRY(sweep());
  return done;
}

bool Cleaner::make_room(std::uint64_t bytes, std::uint64_t before) {
  MutexLock lock(mu_);
  if (rooms_made_ != before) return true;
  if (trash_.objects > 0) {
    if (!empty_trash()) return false;
  } else {
    if (Clock::now() < try_again_) return false;
    const auto done =
        discard_objects({std::max(bytes, kRoomBytes), kRoomFiles}, Layout::Discard::kAtOnce);
    if (!done || done->objects == 0) {
      try_again_ = Clock::now() + kTryAgain;
      return false;
    }
  }
  ++rooms_made_;
  return true;
}

Result<Collected> Cleaner::discard_objects(const Need& need, Layout::Discard how) {
  Collected done;
  std::size_t kept = 0;  // because they are open, for one
  while (done.bytes < need.bytes || done.objects < need.files) {
    IMSY_TRY_ASSIGN(const auto victims, index_.unowned_objects(kBatch, kept));
    if (victims.empty()) break;
    for (const Index::ObjectRow& victim : victims) {
      if (done.bytes >= need.bytes && done.objects >= need.files) break;
      IMSY_TRY_ASSIGN(const bool gone, discard_(victim.id, how));
      if (gone) {
        ++done.objects;
        done.bytes += victim.size;
      } else {
        ++kept;
      }
    }
  }
  stale_ = stale_ || done.objects > 0;
  return done;
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
