// The part of the index that is acknowledged, what follows a crash, and reports.
// On disk: docs/format/store.md.
#include <unordered_set>

#include "cas/index.h"
#include "cas/index_connection.h"

namespace imsy::cas {
namespace {

// Of objects to be remembered as new: about 6 MB.
constexpr std::size_t kNewLimit = 100'000;
// Of objects given up of which a crash may bring back the record: about 1 MB.
constexpr std::size_t kGivenUpMax = 16'384;

constexpr const char* kRemoveUnfetched = R"sql(
DELETE FROM object WHERE state = 0 AND trust_domain IS NULL
  AND row IN (SELECT object FROM owner WHERE image = ?1)
  AND NOT EXISTS (SELECT 1 FROM owner WHERE object = object.row AND image <> ?1))sql";

constexpr const char* kObjectStats = R"sql(
SELECT COUNT(*), COALESCE(SUM(size), 0),
  COALESCE(SUM(NOT EXISTS (SELECT 1 FROM owner WHERE object = object.row)), 0),
  COALESCE(SUM(CASE WHEN EXISTS (SELECT 1 FROM owner WHERE object = object.row)
               THEN 0 ELSE size END), 0)
FROM object WHERE state > 0)sql";

constexpr const char* kUsedByRemoved = R"sql(
UPDATE object SET used = unixepoch() WHERE row IN (SELECT object FROM owner WHERE image = ?1))sql";

// What is incomplete first: only its own image has a use for most of it.
constexpr const char* kUnowned = R"sql(
SELECT id, size FROM object
WHERE NOT EXISTS (SELECT 1 FROM owner WHERE owner.object = object.row)
ORDER BY state > 0, used, row LIMIT ?1 OFFSET ?2)sql";

constexpr const char* kUnwanted = R"sql(
SELECT id, size FROM object
WHERE (state > 0 OR trust_domain IS NOT NULL)
  AND row IN (SELECT object FROM owner JOIN image ON image.row = owner.image WHERE wanted = 0)
  AND NOT EXISTS (SELECT 1 FROM owner JOIN image ON image.row = owner.image
                  WHERE owner.object = object.row AND wanted = 1)
ORDER BY state > 0, used, row LIMIT ?1 OFFSET ?2)sql";

constexpr const char* kShrinkNext = R"sql(
UPDATE image SET resident = 0, wanted = 0 WHERE row =
  (SELECT row FROM image WHERE resident = 1 AND pinned = 0 ORDER BY used, row LIMIT 1)
RETURNING manifest)sql";

// All that the disk had of it is gone; images still own it.
constexpr const char* kEmptyObject =
    "UPDATE object SET state = 0, run = 0, trust_domain = NULL WHERE id = ?1";

constexpr const char* kStaleChunks = R"sql(
DELETE FROM chunk WHERE key BETWEEN ?1 AND ?2
  AND NOT EXISTS (SELECT 1 FROM object WHERE object.row = chunk.object))sql";

// Where the ids that begin with the byte `first` begin, and end.
std::pair<Bytes, Bytes> keys_from(unsigned first) {
  const Bytes from(1, static_cast<std::byte>(first));
  if (first < 255) return {from, Bytes(1, static_cast<std::byte>(first + 1))};
  return {from, Bytes(Digest::kSize + 1, std::byte{0xff})};  // greater than any
}

// A connection for what takes long.
Result<Database> open_scan(const Layout& layout) {
  IMSY_TRY_ASSIGN(auto database, Database::open(layout.index_path(), Database::Mode::kCreate));
  IMSY_TRY(database.run("PRAGMA temp_store = MEMORY"));
  return database;
}

// --- reports

Status object_stats(Database& database, StoreStats& stats) {
  IMSY_TRY_ASSIGN(auto objects, database.prepare(kObjectStats));
  IMSY_TRY(objects.step());
  stats.objects = static_cast<std::uint64_t>(objects.integer(0));
  stats.object_bytes = static_cast<std::uint64_t>(objects.integer(1));
  stats.unowned_objects = static_cast<std::uint64_t>(objects.integer(2));
  stats.unowned_bytes = static_cast<std::uint64_t>(objects.integer(3));
  objects.reset();
  IMSY_TRY_ASSIGN(auto chunks, database.prepare("SELECT COUNT(*) FROM chunk"));
  IMSY_TRY_ASSIGN(const std::int64_t count, chunks.run_for_integer());
  stats.chunks = static_cast<std::uint64_t>(count);
  return {};
}

Status domain_stats(Database& database, StoreStats& stats) {
  IMSY_TRY_ASSIGN(auto domains,
                  database.prepare("SELECT trust_domain, COUNT(*), SUM(size) FROM object WHERE "
                                   "state > 0 AND trust_domain IS NOT NULL GROUP BY 1 ORDER BY 1"));
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, domains.step());
    if (!row) return {};
    stats.domains.push_back({domains.text(0), static_cast<std::uint64_t>(domains.integer(1)),
                             static_cast<std::uint64_t>(domains.integer(2))});
  }
}

Status limit_stats(Database& database, StoreStats& stats) {
  IMSY_TRY_ASSIGN(auto limits, database.prepare("SELECT key, value FROM meta"));
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, limits.step());
    if (!row) return {};
    const auto value = static_cast<std::uint64_t>(limits.integer(1));
    if (limits.text(0) == "quota_bytes") stats.quota_bytes = value;
    if (limits.text(0) == "free_floor_percent") {
      stats.free_floor_percent = static_cast<unsigned>(value);
    }
  }
}

Status image_stats(Database& database, StoreStats& stats) {
  IMSY_TRY_ASSIGN(auto images, database.prepare("SELECT manifest, objects, bytes, resident, "
                                                "wanted, pinned FROM image ORDER BY added, row"));
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, images.step());
    if (!row) return {};
    StoreStats::Image image;
    IMSY_TRY_ASSIGN(image.manifest, images.digest(0));
    image.objects = static_cast<std::uint64_t>(images.integer(1));
    image.bytes = static_cast<std::uint64_t>(images.integer(2));
    image.resident = images.integer(3) != 0;
    image.shrunk = images.integer(4) == 0;
    image.pinned = images.integer(5) != 0;
    stats.images.push_back(image);
  }
}

Error unknown_image(const Digest& manifest) {
  return Error(Errc::kFailedPrecondition,
               "image " + manifest.to_string() + " is not in the store: add it first");
}

}  // namespace

Status Index::add_image(const ImageRow& image, const cdc::Manifest& manifest) {
  MutexLock lock(write_mu_);
  Writer& writer = *writer_;
  std::vector<cdc::ObjectId> created;
  IMSY_TRY(durably([&] { return writer.put_image(image, manifest, &created); }));
  MutexLock queue_lock(queue_mu_);
  // Some are never opened, because their images went first.
  if (new_.size() + created.size() > kNewLimit) new_.clear();
  if (created.size() <= kNewLimit) new_.insert(created.begin(), created.end());
  return {};
}

bool Index::take_new(const cdc::ObjectId& object) {
  if (broken_) return false;  // what was put since is not on record
  MutexLock lock(queue_mu_);
  return new_.erase(object) > 0;
}

Status Index::own_again(const ImageRow& image, const cdc::Manifest& manifest) {
  MutexLock lock(write_mu_);
  Writer& writer = *writer_;
  return durably([&]() -> Status {
    for (const char* sql :
         {"DELETE FROM owner WHERE image IN (SELECT row FROM image WHERE manifest = ?1)",
          "UPDATE image SET resident = 0 WHERE manifest = ?1"}) {
      IMSY_TRY_ASSIGN(auto statement, writer.database.prepare(sql));
      IMSY_TRY(statement.bind(1, image.manifest).run());
    }
    return writer.put_image(image, manifest, nullptr);
  });
}

Status Index::remove_image(const Digest& manifest) {
  MutexLock lock(write_mu_);
  // What was fetched of its objects must be seen.
  ignore(flush_locked(), "what cannot be written now is found unowned later");
  Writer& writer = *writer_;
  return durably([&]() -> Status {
    const auto row = writer.image_row(manifest);
    if (!row && row.error().code() == Errc::kNotFound) return {};
    if (!row) return row.error();
    for (const char* sql : {kRemoveUnfetched, kUsedByRemoved, "DELETE FROM owner WHERE image = ?1",
                            "DELETE FROM image WHERE row = ?1"}) {
      IMSY_TRY_ASSIGN(auto statement, writer.database.prepare(sql));
      IMSY_TRY(statement.bind(1, *row).run());
    }
    return {};
  });
}

Result<bool> Index::is_resident(const Digest& manifest) {
  Reader& reader = this->reader();
  MutexLock lock(reader.mu);
  reader.release();
  auto resident = watch(reader.image.bind(1, manifest).run_for_integer());
  if (!resident && resident.error().code() == Errc::kNotFound) return false;
  if (!resident) return resident.error();
  return *resident != 0;
}

Result<bool> Index::is_shrunk(const Digest& manifest) {
  IMSY_TRY_ASSIGN(const auto size, shrunk_size(manifest));
  return size.has_value();
}

Result<std::optional<Collected>> Index::shrunk_size(const Digest& manifest) {
  Reader& reader = this->reader();
  MutexLock lock(reader.mu);
  reader.release();
  std::optional<Collected> size;
  IMSY_TRY_ASSIGN(const bool known, watch(reader.image.bind(1, manifest).step()));
  if (!known) return size;
  if (reader.image.integer(1) == 0) {
    size = {.objects = static_cast<std::uint64_t>(reader.image.integer(2)),
            .bytes = static_cast<std::uint64_t>(reader.image.integer(3))};
  }
  reader.image.reset();
  return size;
}

Status Index::use_image(const Digest& manifest) {
  return change_image(manifest, "UPDATE image SET used = unixepoch(), wanted = ?2 WHERE row = ?1",
                      1);
}

Status Index::pin(const Digest& manifest, bool pinned) {
  return change_image(manifest,
                      "UPDATE image SET pinned = ?2, wanted = MAX(wanted, ?2) WHERE row = ?1",
                      pinned ? 1 : 0);
}

Status Index::change_image(const Digest& manifest, const char* sql, std::int64_t value) {
  MutexLock lock(write_mu_);
  Writer& writer = *writer_;
  return durably([&]() -> Status {
    const auto row = writer.image_row(manifest);
    if (!row && row.error().code() == Errc::kNotFound) return unknown_image(manifest);
    if (!row) return row.error();
    IMSY_TRY_ASSIGN(auto change, writer.database.prepare(sql));
    return change.bind(1, *row).bind(2, value).run();
  });
}

Result<std::optional<Digest>> Index::shrink_next() {
  MutexLock lock(write_mu_);
  Writer& writer = *writer_;
  std::optional<Digest> shrunk;
  IMSY_TRY(durably([&]() -> Status {
    IMSY_TRY_ASSIGN(auto shrink, writer.database.prepare(kShrinkNext));
    IMSY_TRY_ASSIGN(const bool row, shrink.step());
    if (!row) return {};
    IMSY_TRY_ASSIGN(shrunk, shrink.digest(0));
    return shrink.run();
  }));
  return shrunk;
}

Status Index::mark_resident(const Digest& manifest, const std::function<Status()>& sync) {
  // An object that is found to be bad between the count and the record may be complete again by
  // then, but written after the sync: then all is done once more.
  for (int attempt = 0; attempt < 3; ++attempt) {
    std::uint64_t before = 0;
    {
      MutexLock lock(write_mu_);
      IMSY_TRY(flush_locked());
      before = distrusted_;
      const auto row = watch(writer_->image_row(manifest));
      if (!row && row.error().code() == Errc::kNotFound) return unknown_image(manifest);
      if (!row) return row.error();
      IMSY_TRY_ASSIGN(const auto missing, watch(writer_->count_unverified(*row, run_)));
      if (missing > 0) {
        return Error(Errc::kFailedPrecondition, "image " + manifest.to_string() + " lacks " +
                                                    std::to_string(missing) + " objects");
      }
    }
    IMSY_TRY(sync());
    MutexLock lock(write_mu_);
    if (distrusted_ == before) return record_resident(manifest);
  }
  return Error(Errc::kFailedPrecondition,
               "image " + manifest.to_string() + ": its objects keep turning out to be damaged");
}

Status Index::record_resident(const Digest& manifest) {
  Writer& writer = *writer_;
  return durably([&]() -> Status {
    const auto row = writer.image_row(manifest);
    if (!row && row.error().code() == Errc::kNotFound) return unknown_image(manifest);
    if (!row) return row.error();
    for (const char* sql : {"UPDATE object SET state = 2 WHERE state = 1 AND row IN "
                            "(SELECT object FROM owner WHERE image = ?1)",
                            "UPDATE image SET resident = 1, wanted = 1 WHERE row = ?1"}) {
      IMSY_TRY_ASSIGN(auto statement, writer.database.prepare(sql));
      IMSY_TRY(statement.bind(1, *row).run());
    }
    return {};
  });
}

Result<std::vector<Index::ImageRow>> Index::images() {
  Reader& reader = this->reader();
  MutexLock lock(reader.mu);
  reader.release();
  std::vector<ImageRow> found;
  IMSY_TRY_ASSIGN(auto list,
                  reader.database.prepare("SELECT manifest, anchor, trust_domain FROM image"));
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, watch(list.step()));
    if (!row) return found;
    IMSY_TRY_ASSIGN(const Digest manifest, list.digest(0));
    found.push_back({manifest, list.text(1), list.text(2)});
  }
}

Result<std::vector<Index::ObjectRow>> Index::idle_objects(Idle which, std::size_t limit,
                                                          std::size_t skip) {
  // What cannot be written is not seen: it stays for now.
  ignore(flush(), "as said");
  IMSY_TRY_ASSIGN(auto database, open_scan(layout_));
  IMSY_TRY_ASSIGN(auto list, database.prepare(which == Idle::kUnowned ? kUnowned : kUnwanted));
  list.bind(1, static_cast<std::int64_t>(limit)).bind(2, static_cast<std::int64_t>(skip));
  std::vector<ObjectRow> found;
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, watch(list.step()));
    if (!row) return found;
    IMSY_TRY_ASSIGN(const Digest id, list.digest(0));
    found.push_back({id, static_cast<std::uint64_t>(list.integer(1)), std::nullopt});
  }
}

Result<std::uint64_t> Index::object_bytes() {
  IMSY_TRY_ASSIGN(const Collected all, count_objects("1"));
  return all.bytes;
}

Result<Collected> Index::unowned() {
  return count_objects("NOT EXISTS (SELECT 1 FROM owner WHERE owner.object = object.row)");
}

// Complete ones.
Result<Collected> Index::count_objects(const char* which) {
  IMSY_TRY_ASSIGN(auto database, open_scan(layout_));
  IMSY_TRY_ASSIGN(auto sum,
                  database.prepare(std::string("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM "
                                               "object WHERE state > 0 AND ") +
                                   which));
  IMSY_TRY(watch(sum.step()));
  return Collected{.objects = static_cast<std::uint64_t>(sum.integer(0)),
                   .bytes = static_cast<std::uint64_t>(sum.integer(1))};
}

Result<bool> Index::remove_idle(const cdc::ObjectId& object,
                                const std::function<Status()>& remove_file) {
  MutexLock lock(write_mu_);
  if (broken_) return Error(Errc::kCorrupt, "the store's index is broken until the next start");
  Statement& count = writer_->count_owners;
  IMSY_TRY(watch(count.bind(1, object).step()));
  const bool owned = count.integer(0) > 0;
  const bool wanted = count.integer(1) > 0;
  count.reset();
  if (wanted) return false;
  // Before a file goes that an image may be about to be marked resident with.
  if (owned) ++distrusted_;
  // The file first, since the disk may be too full for anything else. A row without a file is found
  // out by who opens the object, and by the next start after a crash.
  const auto count_given_up = [&] {
    MutexLock given_up_lock(given_up_mu_);
    return given_up_.size();
  };
  // Before this one is added, whose row is still there.
  if (count_given_up() >= kGivenUpMax) {
    ignore(settle_all(), "a full disk is why they go; they are settled later");
  }
  {
    MutexLock given_up_lock(given_up_mu_);
    given_up_.insert(object);
  }
  IMSY_TRY(remove_file());
  edit_queued(object, [](QueuedObject& queued) { queued.complete = false; });
  return watch(forget(object, owned)).has_value();
}

bool Index::is_wanted(const cdc::ObjectId& object) {
  Reader& reader = this->reader();
  MutexLock lock(reader.mu);
  reader.release();
  const auto row = watch(reader.owners.bind(1, object).step());
  const bool wanted = row && reader.owners.integer(1) > 0;
  reader.owners.reset();
  return wanted;
}

Status Index::forget(const cdc::ObjectId& object, bool owned) {
  Database& database = writer_->database;
  IMSY_TRY_ASSIGN(auto transaction, Transaction::begin(database));
  for (const char* sql :
       {"DELETE FROM access WHERE object = (SELECT row FROM object WHERE id = ?1)",
        owned ? kEmptyObject : "DELETE FROM object WHERE id = ?1"}) {
    IMSY_TRY_ASSIGN(auto statement, database.prepare(sql));
    IMSY_TRY(statement.bind(1, object).run());
  }
  return commit(transaction);
}

Status Index::drop_stale_chunks() {
  // A part at a time, so that others can write.
  constexpr ChunkKey kPart = ChunkKey{1} << 56;
  for (ChunkKey part = -128; part < 128; ++part) {
    MutexLock lock(write_mu_);
    const ChunkKey from = part * kPart;
    IMSY_TRY_ASSIGN(auto statement, writer_->database.prepare(kStaleChunks));
    IMSY_TRY(watch(statement.bind(1, from).bind(2, from + (kPart - 1)).run()));
  }
  return {};
}

Status Index::drop_dangling_rows() {
  MutexLock lock(write_mu_);
  Writer& writer = *writer_;
  return durably([&]() -> Status {
    IMSY_TRY(
        writer.database.run("DELETE FROM access WHERE object NOT IN (SELECT row FROM object);"
                            "DELETE FROM owner WHERE object NOT IN (SELECT row FROM object) OR "
                            "image NOT IN (SELECT row FROM image)"));
    return {};
  });
}

Status Index::adopt(unsigned first, const std::vector<Layout::ObjectFile>& files) {
  MutexLock lock(write_mu_);
  Writer& writer = *writer_;
  const auto keys = keys_from(first);
  const auto work = [&]() IMSY_REQUIRES(write_mu_) -> Status {
    // A crash before this is on the disk makes the next start do it again.
    IMSY_TRY_ASSIGN(auto transaction, Transaction::begin(writer.database));
    std::unordered_set<cdc::ObjectId> known;
    IMSY_TRY_ASSIGN(auto list, writer.database.prepare("SELECT id FROM object WHERE id >= ?1 AND "
                                                       "id < ?2 AND state > 0"));
    list.bind(1, ByteSpan(keys.first)).bind(2, ByteSpan(keys.second));
    for (;;) {
      IMSY_TRY_ASSIGN(const bool row, list.step());
      if (!row) break;
      IMSY_TRY_ASSIGN(const Digest id, list.digest(0));
      known.insert(id);
    }
    for (const Layout::ObjectFile& file : files) {
      if (known.erase(file.id) > 0) continue;
      // Run 0 is no process's: it has to be hashed.
      const ObjectRow object{file.id, file.size, domain_of_file(file.is_public)};
      IMSY_TRY(writer.object_row(object, kStateComplete, 0));
    }
    for (const cdc::ObjectId& lost : known) {
      IMSY_TRY(writer.distrust.bind(1, lost).run());
      IMSY_TRY(writer.distrust_all.bind(1, lost).run());
    }
    return commit(transaction);
  };
  return watch(work());
}

Status Index::finish_building() {
  MutexLock lock(write_mu_);
  {
    MutexLock queue_lock(queue_mu_);
    new_.clear();  // to the index only
  }
  Database& database = writer_->database;
  return durably([&] { return database.run("DELETE FROM meta WHERE key = 'building'"); });
}

Status Index::note_limits(const StoreOptions& limits) {
  MutexLock lock(write_mu_);
  IMSY_TRY_ASSIGN(auto note,
                  writer_->database.prepare("INSERT OR REPLACE INTO meta(key, value) VALUES"
                                            "('quota_bytes', ?1), ('free_floor_percent', ?2)"));
  return watch(note.bind(1, static_cast<std::int64_t>(limits.quota_bytes))
                   .bind(2, std::int64_t{limits.free_floor_percent})
                   .run());
}

Status Index::stats(StoreStats& stats) {
  IMSY_TRY(flush());
  IMSY_TRY_ASSIGN(auto database, open_scan(layout_));
  return watch(Index::stats(database, stats));
}

Status Index::stats(Database& database, StoreStats& stats) {
  IMSY_TRY(object_stats(database, stats));
  IMSY_TRY(domain_stats(database, stats));
  IMSY_TRY(limit_stats(database, stats));
  return image_stats(database, stats);
}

}  // namespace imsy::cas
