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
// Look-ups of one go, so that others get their turn.
constexpr std::size_t kLookUps = 4096;

// The domain of bytes of both.
void merge(std::optional<std::string>& domain, const std::optional<std::string>& other) {
  if (!domain) domain = other;
  if (other && *domain != *other) domain = kSharedWithNobody;
}

}  // namespace

Index::ChunkKey Index::key_of(const Digest& digest) {
  std::uint64_t key = 0;
  for (std::size_t i = 0; i < sizeof key; ++i) {
    key = key << 8 | std::to_integer<std::uint64_t>(digest.bytes()[i]);
  }
  return static_cast<std::int64_t>(key ^ std::uint64_t{1} << 63);
}

Index::QueuedObject& Index::Queue::at(const ObjectRow& object) {
  const auto [at, is_new] = objects.try_emplace(object.id, QueuedObject{object, false, {}});
  if (!is_new) merge(at->second.row.trust_domain, object.trust_domain);
  return at->second;
}

Index::Index(const Layout& layout, DedupScope scope) : layout_(layout), scope_(scope) {}

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
    } else if (database.error().code() == Errc::kUnavailable) {
      return database.error();  // no descriptors, or no memory: nothing is known of the file
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
  for (auto& reader : readers_) {
    IMSY_TRY_ASSIGN(reader, Reader::open(path));
  }
  return {};
}

Result<Index::Opened> Index::open(const Layout& layout, DedupScope scope) {
  Opened opened;
  IMSY_TRY(prepare_file(layout, opened));
  opened.index.reset(new Index(layout, scope));
  if (auto connected = opened.index->connect(opened); !connected) {
    const bool is_new = !opened.reason.empty();
    if (connected.error().code() != Errc::kCorrupt || is_new) return connected.error();
    // Damage that only writing finds.
    opened.index.reset(new Index(layout, scope));
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

// The row of an object of which there is something now.
Index::QueuedObject& Index::record(Queue& queue, const ObjectRow& row) {
  new_.erase(row.id);
  return queue.at(row);
}

void Index::add_complete(const ObjectRow& row) {
  enqueue([&](Queue& queue) IMSY_REQUIRES(queue_mu_) { record(queue, row).complete = true; });
}

void Index::add_chunk(const Digest& digest, const ObjectRow& object, std::uint64_t offset) {
  enqueue([&](Queue& queue) IMSY_REQUIRES(queue_mu_) {
    // The object's row always: it says whose bytes are in the file.
    record(queue, object);
    if (queue.chunks.size() < kQueueLimit) {
      queue.chunks.emplace(key_of(digest), ChunkPlace{object.id, offset});
    }
  });
}

void Index::add_access(const ObjectRow& object, const std::string& trust_domain) {
  enqueue([&](Queue& queue)
              IMSY_REQUIRES(queue_mu_) { record(queue, object).others.push_back(trust_domain); });
}

void Index::drop_chunk(const Digest& digest, const ChunkPlace& place) {
  enqueue([&](Queue& queue) {
    const auto [begin, end] = queue.chunks.equal_range(key_of(digest));
    for (auto at = begin; at != end;) {
      const bool same = at->second.object == place.object && at->second.offset == place.offset;
      at = same ? queue.chunks.erase(at) : std::next(at);
    }
    if (queue.drops.size() < kQueueLimit) queue.drops.push_back({key_of(digest), place});
  });
}

void Index::touch(const cdc::ObjectId& object) {
  enqueue([&](Queue& queue) { queue.touched.insert(object); });
}

// False when the thread is to end.
bool Index::wait_for_work() {
  MutexLock lock(queue_mu_);
  while (!stopping_ && queue_.size() == 0 && batch_ == nullptr) queued_.wait(queue_mu_);
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
        if (queue_.size() == 0) return {};
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
  std::unordered_map<cdc::ObjectId, std::int64_t> rows;
  for (const auto& [id, object] : batch.objects) {
    const std::int64_t state = object.complete ? kStateComplete : kStateIncomplete;
    IMSY_TRY_ASSIGN(rows[id], writer.object_row(object.row, state, object.complete ? run_ : 0));
    for (const std::string& domain : object.others) {
      IMSY_TRY(writer.put_access.bind(1, rows[id]).bind(2, domain).run());
    }
  }
  // In the order of the table.
  std::vector<const Queue::Chunks::value_type*> chunks;
  chunks.reserve(batch.chunks.size());
  for (const auto& chunk : batch.chunks) chunks.push_back(&chunk);
  std::sort(chunks.begin(), chunks.end(),
            [](const auto* a, const auto* b) { return a->first < b->first; });
  for (const auto* chunk : chunks) {
    const auto& [key, place] = *chunk;
    IMSY_TRY(writer.put_chunk.bind(1, key)
                 .bind(2, rows[place.object])
                 .bind(3, static_cast<std::int64_t>(place.offset))
                 .run());
  }
  for (const cdc::ObjectId& object : batch.touched) {
    IMSY_TRY(writer.touch.bind(1, object).run());
  }
  for (const Drop& drop : batch.drops) {
    IMSY_TRY(writer.drop_chunk.bind(1, drop.key)
                 .bind(2, drop.place.object)
                 .bind(3, static_cast<std::int64_t>(drop.place.offset))
                 .run());
  }
  return commit(transaction);
}

Status Index::durably(const std::function<Status()>& work) {
  // With FULL, a commit syncs the log and with it every commit before.
  Database& database = writer_->database;
  IMSY_TRY(database.run("PRAGMA synchronous = FULL"));
  const auto transact = [&]() IMSY_REQUIRES(write_mu_) -> Status {
    IMSY_TRY_ASSIGN(auto transaction, Transaction::begin(database));
    IMSY_TRY(work());
    return commit(transaction);
  };
  Status done = watch(transact());
  if (done) {
    MutexLock lock(given_up_mu_);
    given_up_.clear();
  }
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

bool Index::may_use(const QueuedObject& object, const std::string& trust_domain) const {
  const auto may = [&](const std::string& of) { return of.empty() || of == trust_domain; };
  return scope_ == DedupScope::kNode ||
         (object.row.trust_domain && may(*object.row.trust_domain)) ||
         std::any_of(object.others.begin(), object.others.end(), may);
}

void Index::find_queued(const Queue& queue, Wanted& wanted, const std::string& trust_domain,
                        std::vector<ChunkPlace>& places) const {
  if (queue.objects.empty()) return;
  const auto object = queue.objects.find(wanted.alone());
  if (object != queue.objects.end() && object->second.complete &&
      may_use(object->second, trust_domain)) {
    places.push_back({wanted.alone(), 0});
  }
  const auto [begin, end] = queue.chunks.equal_range(wanted.key());
  for (auto at = begin; at != end && places.size() < kPlacesMax; ++at) {
    if (may_use(queue.objects.at(at->second.object), trust_domain)) places.push_back(at->second);
  }
}

Index::Reader& Index::reader() {
  static std::atomic<unsigned> threads{0};
  thread_local const unsigned mine = threads++;
  return *readers_[mine % readers_.size()];
}

std::vector<Index::ChunkPlace> Index::find_chunk(const cdc::Chunk& chunk,
                                                 const std::string& trust_domain) {
  std::vector<ChunkPlace> places;
  if (broken_ || trust_domain == kSharedWithNobody) return places;
  Wanted wanted(chunk);
  {
    MutexLock lock(queue_mu_);
    find_queued(queue_, wanted, trust_domain, places);
    if (batch_ != nullptr) find_queued(*batch_, wanted, trust_domain, places);
  }
  {
    Reader& reader = this->reader();
    MutexLock lock(reader.mu);
    ignore(watch(reader.find_chunk(wanted, trust_domain, scope_, places)), "it was a hint");
  }
  if (places.size() > kPlacesMax) places.resize(kPlacesMax);
  return places;
}

std::vector<bool> Index::likely_chunks(std::span<const cdc::Chunk> chunks,
                                       const std::string& trust_domain) {
  std::vector<bool> likely(chunks.size());
  if (broken_ || trust_domain == kSharedWithNobody) return likely;
  std::vector<Wanted> wanted;
  wanted.reserve(chunks.size());
  for (const cdc::Chunk& chunk : chunks) wanted.emplace_back(chunk);
  // In the order of the table, so that each of its pages is read once.
  std::sort(wanted.begin(), wanted.end(),
            [](const Wanted& a, const Wanted& b) { return a.key() < b.key(); });
  for (std::size_t at = 0; at < wanted.size(); at += kLookUps) {
    look_up(std::span(wanted).subspan(at, std::min(kLookUps, wanted.size() - at)), trust_domain,
            likely, chunks.data());
  }
  return likely;
}

// `likely` is numbered as the chunks from `first`.
void Index::look_up(std::span<Wanted> wanted, const std::string& trust_domain,
                    std::vector<bool>& likely, const cdc::Chunk* first) {
  std::vector<ChunkPlace> places;
  {
    MutexLock lock(queue_mu_);
    for (Wanted& one : wanted) {
      find_queued(queue_, one, trust_domain, places);
      if (batch_ != nullptr) find_queued(*batch_, one, trust_domain, places);
      likely[one.chunk() - first] = !places.empty();
      places.clear();
    }
  }
  Reader& reader = this->reader();
  MutexLock lock(reader.mu);
  for (Wanted& one : wanted) {
    if (likely[one.chunk() - first]) continue;
    if (!watch(reader.find_chunk(one, trust_domain, scope_, places))) break;
    likely[one.chunk() - first] = !places.empty();
    places.clear();
  }
}

void Index::release_readers() {
  for (const auto& reader : readers_) {
    if (reader == nullptr) continue;  // not yet
    MutexLock lock(reader->mu);
    reader->release();
  }
}

// Before, so that the log can begin anew; after, so that what is new is seen.
Status Index::commit(Transaction& transaction) {
  release_readers();
  const Status done = transaction.commit();
  release_readers();
  return done;
}

Index::Standing Index::standing_of(const cdc::ObjectId& object) {
  Standing standing;
  if (broken_) return standing;
  // First the queue: what is in neither of two looks in this order was never there.
  std::optional<QueuedObject> queued[2];
  {
    MutexLock lock(queue_mu_);
    const auto copy_from = [&](const Queue& queue) -> std::optional<QueuedObject> {
      const auto found = queue.objects.find(object);
      return found == queue.objects.end() ? std::nullopt : std::optional(found->second);
    };
    if (batch_ != nullptr) queued[0] = copy_from(*batch_);
    queued[1] = copy_from(queue_);
  }
  {
    Reader& reader = this->reader();
    MutexLock lock(reader.mu);
    ignore(watch(reader.read_standing(object, run_, standing)), "then nothing is known of it");
  }
  for (const auto& row : queued) {
    if (!row) continue;
    if (row->complete) standing.trust = Trust::kVerified;
    merge(standing.trust_domain, row->row.trust_domain);
    standing.others.insert(standing.others.end(), row->others.begin(), row->others.end());
  }
  return standing;
}

void Index::edit_queued(const cdc::ObjectId& object,
                        const std::function<void(QueuedObject&)>& edit) {
  MutexLock lock(queue_mu_);
  for (Queue* queue : {&queue_, batch_.get()}) {
    if (queue == nullptr) continue;
    const auto found = queue->objects.find(object);
    if (found != queue->objects.end()) edit(found->second);
  }
}

Status Index::distrust(const cdc::ObjectId& object) {
  MutexLock lock(write_mu_);
  if (broken_) return Error(Errc::kCorrupt, "the store's index is broken until the next start");
  edit_queued(object, [](QueuedObject& queued) { queued.complete = false; });
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

Status Index::settle(const cdc::ObjectId& object) {
  const auto is_settled = [&] {
    MutexLock lock(given_up_mu_);
    return !given_up_.contains(object);
  };
  if (is_settled()) return {};
  MutexLock lock(write_mu_);
  if (is_settled()) return {};  // by somebody else meanwhile
  if (broken_) return Error(Errc::kCorrupt, "the store's index is broken until the next start");
  return settle_all();
}

Status Index::settle_all() {
  Writer& writer = *writer_;
  // Any change will do: it takes those before with it.
  return durably([&] {
    return writer.database.run(
        "INSERT INTO meta VALUES('settled', 1) ON CONFLICT(key) DO UPDATE SET value = value + 1");
  });
}

Status Index::set_mixed(const cdc::ObjectId& object) {
  MutexLock lock(write_mu_);
  if (broken_) return Error(Errc::kCorrupt, "the store's index is broken until the next start");
  edit_queued(object, [](QueuedObject& queued) { queued.row.trust_domain = kSharedWithNobody; });
  Writer& writer = *writer_;
  return durably([&] { return writer.set_mixed.bind(1, object).run(); });
}

}  // namespace imsy::cas
