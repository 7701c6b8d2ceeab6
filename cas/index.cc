// The index's life, its queue and its look-ups; images and reports are in index_images.cc.
// On disk: docs/format/store.md.
#include "cas/index.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "cas/index_connection.h"
#include "common/log.h"
#include "common/thread_pool.h"

namespace imsy::cas {
namespace {

// A batch is written when it has this many rows or its oldest row is this old.
constexpr std::size_t kBatchRows = 4096;
constexpr std::chrono::seconds kBatchAge{1};
// While the database cannot be written, chunk hints beyond this are not queued: about 64 MB.
constexpr std::size_t kQueueLimit = 262'144;
constexpr std::size_t kPlacesMax = 8;

bool may_use(const std::optional<std::string>& of, const std::string& trust_domain) {
  return of && (of->empty() || *of == trust_domain);
}

}  // namespace

std::size_t Index::ChunkKeyHash::operator()(const ChunkKey& key) const {
  return load_le<std::size_t>(key.data());
}

Index::ChunkKey Index::key_of(const Digest& digest) {
  ChunkKey key;
  std::copy_n(digest.bytes().begin(), key.size(), key.begin());
  return key;
}

Index::Index(const Layout& layout) : layout_(layout) {}

Status Index::prepare_file(const Layout& layout, Opened& opened) {
  const std::string path = layout.index_path();
  std::error_code ignored;
  if (layout.index_marked_broken()) {
    opened.reason = "a fault was found while it was in use";
  } else if (!std::filesystem::exists(path, ignored)) {
    opened.reason = "it is missing";
  } else {
    auto database = Database::open(path, Database::Mode::kCreate);
    if (database) {
      IMSY_TRY_ASSIGN(opened.reason, index_fault(*database));
    } else {
      opened.reason = database.error().message();
    }
  }
  if (opened.reason.empty()) return {};
  IMSY_TRY_ASSIGN(opened.set_aside, layout.set_index_aside());
  return {};
}

Status Index::connect(Opened& opened) {
  const std::string path = layout_.index_path();
  MutexLock lock(write_mu_);
  IMSY_TRY_ASSIGN(writer_, Writer::open(path));
  Writer& writer = *writer_;
  IMSY_TRY(durably([&]() -> Status {
    IMSY_TRY_ASSIGN(auto get, writer.database.prepare("SELECT value FROM meta WHERE key = ?1"));
    IMSY_TRY_ASSIGN(run_, get.bind(1, std::string_view("run")).run_for_integer());
    IMSY_TRY_ASSIGN(const auto clean, get.bind(1, std::string_view("clean")).run_for_integer());
    opened.clean = clean == 1;
    IMSY_TRY_ASSIGN(auto building,
                    writer.database.prepare("SELECT COUNT(*) FROM meta WHERE key = 'building'"));
    IMSY_TRY_ASSIGN(const auto marks, building.run_for_integer());
    opened.built = marks == 0;
    ++run_;
    IMSY_TRY_ASSIGN(auto set, writer.database.prepare("UPDATE meta SET value = CASE key WHEN "
                                                      "'run' THEN ?1 WHEN 'clean' THEN 0 "
                                                      "ELSE value END"));
    return set.bind(1, run_).run();
  }));
  // The names of the database and its log, too.
  IMSY_TRY(layout_.sync_root());
  MutexLock read_lock(read_mu_);
  IMSY_TRY_ASSIGN(reader_, Reader::open(path));
  return {};
}

Result<Index::Opened> Index::open(const Layout& layout) {
  Opened opened;
  IMSY_TRY(prepare_file(layout, opened));
  opened.index.reset(new Index(layout));
  if (auto connected = opened.index->connect(opened); !connected) {
    const bool is_new = !opened.reason.empty();
    if (connected.error().code() != Errc::kCorrupt || is_new) return connected.error();
    // Damage that only writing finds.
    opened.index.reset(new Index(layout));
    opened.reason = connected.error().message();
    IMSY_TRY_ASSIGN(opened.set_aside, layout.set_index_aside());
    IMSY_TRY(opened.index->connect(opened));
  }
  if (!opened.built && opened.reason.empty()) opened.reason = "the last rebuild was cut off";
  Index* index = opened.index.get();
  index->thread_ = std::thread([index] { index->run(); });
  return opened;
}

Index::~Index() {
  {
    MutexLock lock(queue_mu_);
    stopping_ = true;
  }
  queued_.notify_all();
  if (!thread_.joinable()) return;  // it was never opened
  thread_.join();
  MutexLock lock(write_mu_);
  if (!flush_locked()) return;
  ignore(writer_->database.run("UPDATE meta SET value = 1 WHERE key = 'clean'"),
         "the next start looks at the files again");
}

// --- the queue

template <typename Fill>
void Index::enqueue(Fill fill) {
  if (broken_) return;
  bool wake = false;
  {
    MutexLock lock(queue_mu_);
    const std::size_t before = queue_.size();
    fill(queue_);
    wake = before == 0 || (before < kBatchRows && queue_.size() >= kBatchRows);
  }
  if (wake) queued_.notify_one();
}

void Index::add_complete(ObjectRow row) {
  enqueue([&](Queue& queue) { queue.complete[row.id] = std::move(row); });
}

void Index::add_chunk(const Digest& digest, const ObjectRow& object, std::uint64_t offset) {
  enqueue([&](Queue& queue) {
    if (queue.chunks.size() < kQueueLimit) {
      queue.chunks.emplace(key_of(digest), QueuedChunk{object, offset});
    }
  });
}

void Index::drop_chunk(const Digest& digest, const ChunkPlace& place) {
  enqueue([&](Queue& queue) {
    const auto [begin, end] = queue.chunks.equal_range(key_of(digest));
    for (auto at = begin; at != end;) {
      const bool same = at->second.object.id == place.object && at->second.offset == place.offset;
      at = same ? queue.chunks.erase(at) : std::next(at);
    }
    if (queue.drops.size() < kQueueLimit) queue.drops.push_back({key_of(digest), place});
  });
}

// False when the thread is to end.
bool Index::wait_for_work() {
  MutexLock lock(queue_mu_);
  while (!stopping_ && queue_.empty() && batch_ == nullptr) queued_.wait(queue_mu_);
  const auto until = std::chrono::steady_clock::now() + kBatchAge;
  while (!stopping_ && queue_.size() < kBatchRows) {
    if (!queued_.wait_until(queue_mu_, until)) break;
  }
  return !stopping_;
}

void Index::run() {
  name_this_thread("imsy-index");
  while (wait_for_work()) {
    if (broken_) {
      MutexLock lock(queue_mu_);
      queue_ = Queue();
      batch_ = nullptr;
      continue;
    }
    const Status flushed = flush();
    if (!flushed && !write_failed_.exchange(true)) {
      log::warn("store {}: the index cannot be written, what is new is kept in memory: {}",
                layout_.root().string(), flushed.error().message());
    }
    if (flushed && write_failed_.exchange(false)) {
      log::info("store {}: the index can be written again", layout_.root().string());
    }
    if (!flushed) {
      MutexLock lock(queue_mu_);
      const auto until = std::chrono::steady_clock::now() + kBatchAge;
      while (!stopping_ && queued_.wait_until(queue_mu_, until)) {
      }
    }
  }
}

Status Index::flush() {
  MutexLock lock(write_mu_);
  return flush_locked();
}

Status Index::flush_locked() {
  if (broken_) return Error(Errc::kCorrupt, "the store's index is broken until the next start");
  // First what an earlier call could not write, then what came since.
  for (;;) {
    std::shared_ptr<Queue> batch;
    {
      MutexLock lock(queue_mu_);
      if (batch_ == nullptr) {
        if (queue_.empty()) return {};
        batch_ = std::make_shared<Queue>(std::exchange(queue_, Queue()));
      }
      batch = batch_;
    }
    IMSY_TRY(watch(write_batch(*batch)));
    MutexLock lock(queue_mu_);
    batch_ = nullptr;
  }
}

Status Index::write_batch(const Queue& batch) {
  Writer& writer = *writer_;
  IMSY_TRY_ASSIGN(auto transaction, Transaction::begin(writer.database));
  for (const auto& [id, object] : batch.complete) {
    IMSY_TRY(writer.object_row(object, kStateComplete, run_));
  }
  std::unordered_map<cdc::ObjectId, std::int64_t> rows;
  for (const auto& [key, chunk] : batch.chunks) {
    auto [row, is_new] = rows.try_emplace(chunk.object.id, 0);
    if (is_new) {
      IMSY_TRY_ASSIGN(row->second, writer.object_row(chunk.object, kStateIncomplete, 0));
    }
    IMSY_TRY(writer.put_chunk.bind(1, ByteSpan(key))
                 .bind(2, row->second)
                 .bind(3, static_cast<std::int64_t>(chunk.offset))
                 .run());
  }
  for (const Drop& drop : batch.drops) {
    IMSY_TRY(writer.drop_chunk.bind(1, ByteSpan(drop.key))
                 .bind(2, drop.place.object)
                 .bind(3, static_cast<std::int64_t>(drop.place.offset))
                 .run());
  }
  return transaction.commit();
}

Status Index::durably(const std::function<Status()>& work) {
  // With FULL, a commit syncs the log and with it every commit before.
  Database& database = writer_->database;
  IMSY_TRY(database.run("PRAGMA synchronous = FULL"));
  const auto transact = [&]() -> Status {
    IMSY_TRY_ASSIGN(auto transaction, Transaction::begin(database));
    IMSY_TRY(work());
    return transaction.commit();
  };
  Status done = watch(transact());
  ignore(database.run("PRAGMA synchronous = NORMAL"), "too careful is no fault");
  return done;
}

void Index::note_fault(const Error& error) {
  if (error.code() != Errc::kCorrupt || broken_.exchange(true)) return;
  log::error("store {}: the index is broken and will be rebuilt at the next start: {}",
             layout_.root().string(), error.message());
  layout_.mark_index_broken();
}

// --- look-ups

void Index::find_queued(const Queue& queue, const cdc::Chunk& chunk, const cdc::ObjectId& alone,
                        const std::string& trust_domain, std::vector<ChunkPlace>& places) const {
  const auto object = queue.complete.find(alone);
  if (object != queue.complete.end() && may_use(object->second.trust_domain, trust_domain)) {
    places.push_back({alone, 0});
  }
  const auto [begin, end] = queue.chunks.equal_range(key_of(chunk.digest));
  for (auto at = begin; at != end && places.size() < kPlacesMax; ++at) {
    if (may_use(at->second.object.trust_domain, trust_domain)) {
      places.push_back({at->second.object.id, at->second.offset});
    }
  }
}

Status Index::find_written(const cdc::Chunk& chunk, const cdc::ObjectId& alone,
                           const std::string& trust_domain, std::vector<ChunkPlace>& places) {
  Statement& find_object = reader_->find_object;
  IMSY_TRY_ASSIGN(const bool there, find_object.bind(1, alone).bind(2, trust_domain).step());
  if (there) {
    places.push_back({alone, 0});
    find_object.reset();
  }
  const ChunkKey key = key_of(chunk.digest);
  Statement& find_chunk = reader_->find_chunk;
  find_chunk.bind(1, ByteSpan(key)).bind(2, trust_domain);
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, find_chunk.step());
    if (!row) return {};
    const auto id = find_chunk.digest(0);
    if (id) places.push_back({*id, static_cast<std::uint64_t>(find_chunk.integer(1))});
  }
}

std::vector<Index::ChunkPlace> Index::find_chunk(const cdc::Chunk& chunk,
                                                 const std::string& trust_domain) {
  std::vector<ChunkPlace> places;
  if (broken_ || trust_domain == kSharedWithNobody) return places;
  // A chunk that is all of a small file has no row of its own: the object's name follows from it.
  const cdc::ObjectId alone = cdc::object_id(chunk.size, std::span(&chunk.digest, 1));
  {
    MutexLock lock(queue_mu_);
    find_queued(queue_, chunk, alone, trust_domain, places);
    if (batch_ != nullptr) find_queued(*batch_, chunk, alone, trust_domain, places);
  }
  {
    MutexLock lock(read_mu_);
    ignore(watch(find_written(chunk, alone, trust_domain, places)), "it was a hint");
  }
  if (places.size() > kPlacesMax) places.resize(kPlacesMax);
  return places;
}

std::vector<bool> Index::likely_chunks(std::span<const cdc::Chunk> chunks,
                                       const std::string& trust_domain) {
  std::vector<bool> likely(chunks.size());
  if (broken_ || trust_domain == kSharedWithNobody) return likely;
  std::vector<cdc::ObjectId> alone;
  for (const cdc::Chunk& chunk : chunks) {
    alone.push_back(cdc::object_id(chunk.size, std::span(&chunk.digest, 1)));
  }
  std::vector<ChunkPlace> places;
  {
    MutexLock lock(queue_mu_);
    for (std::size_t i = 0; i < chunks.size(); ++i, places.clear()) {
      find_queued(queue_, chunks[i], alone[i], trust_domain, places);
      if (batch_ != nullptr) find_queued(*batch_, chunks[i], alone[i], trust_domain, places);
      likely[i] = !places.empty();
    }
  }
  MutexLock lock(read_mu_);
  // One read transaction for all of them saves most of the cost of each.
  if (!watch(reader_->database.run("BEGIN"))) return likely;
  for (std::size_t i = 0; i < chunks.size(); ++i, places.clear()) {
    if (likely[i]) continue;
    if (!watch(find_written(chunks[i], alone[i], trust_domain, places))) break;
    likely[i] = !places.empty();
  }
  ignore(reader_->database.run("COMMIT"), "nothing was written");
  return likely;
}

Index::Trust Index::trust_of(const cdc::ObjectId& object) {
  if (broken_) return Trust::kIncomplete;
  {
    MutexLock lock(queue_mu_);
    if (queue_.complete.contains(object)) return Trust::kVerified;
    if (batch_ != nullptr && batch_->complete.contains(object)) return Trust::kVerified;
  }
  MutexLock lock(read_mu_);
  Statement& trust = reader_->trust;
  const auto row = watch(trust.bind(1, object).step());
  if (!row || !*row) return Trust::kIncomplete;
  const std::int64_t state = trust.integer(0);
  const std::int64_t run = trust.integer(1);
  trust.reset();
  if (state == kStateDurable || (state == kStateComplete && run == run_)) return Trust::kVerified;
  return state == kStateComplete ? Trust::kUnverified : Trust::kIncomplete;
}

Status Index::distrust(const cdc::ObjectId& object) {
  MutexLock lock(write_mu_);
  if (broken_) return Error(Errc::kCorrupt, "the store's index is broken until the next start");
  {
    MutexLock queue_lock(queue_mu_);
    queue_.complete.erase(object);
    if (batch_ != nullptr) batch_->complete.erase(object);
  }
  ++distrusted_;
  Writer& writer = *writer_;
  const auto forget = [&]() -> Status {
    IMSY_TRY(writer.distrust.bind(1, object).run());
    return writer.distrust_all.bind(1, object).run();
  };
  IMSY_TRY_ASSIGN(auto state, writer.database.prepare("SELECT state FROM object WHERE id = ?1"));
  const auto known = watch(state.bind(1, object).run_for_integer());
  if (!known && known.error().code() == Errc::kNotFound) return {};
  if (!known) return known.error();
  if (*known == kStateDurable) return durably(forget);
  // The next start believes nothing else without hashing it, so there is nothing to sync.
  return watch(forget());
}

}  // namespace imsy::cas
