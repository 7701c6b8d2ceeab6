// On disk: docs/format/store.md.
#include "cas/index_connection.h"

#include <utility>

namespace imsy::cas {
namespace {

constexpr const char* kTables = R"sql(
CREATE TABLE meta(
  key TEXT PRIMARY KEY,
  value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE object(
  row INTEGER PRIMARY KEY AUTOINCREMENT,
  id BLOB NOT NULL UNIQUE,
  size INTEGER NOT NULL,
  state INTEGER NOT NULL,
  run INTEGER NOT NULL,
  used INTEGER NOT NULL,
  trust_domain TEXT);
CREATE TABLE access(
  object INTEGER NOT NULL,
  trust_domain TEXT NOT NULL,
  PRIMARY KEY(object, trust_domain)) WITHOUT ROWID;
CREATE TABLE chunk(
  key INTEGER NOT NULL,
  object INTEGER NOT NULL,
  offset INTEGER NOT NULL,
  PRIMARY KEY(key, object, offset)) WITHOUT ROWID;
CREATE TABLE image(
  row INTEGER PRIMARY KEY,
  manifest BLOB NOT NULL UNIQUE,
  anchor TEXT NOT NULL,
  trust_domain TEXT NOT NULL,
  resident INTEGER NOT NULL,
  added INTEGER NOT NULL,
  objects INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  used INTEGER NOT NULL,
  wanted INTEGER NOT NULL,
  pinned INTEGER NOT NULL);
CREATE TABLE owner(
  image INTEGER NOT NULL,
  object INTEGER NOT NULL,
  PRIMARY KEY(image, object)) WITHOUT ROWID;
CREATE INDEX owner_object ON owner(object);
INSERT INTO meta VALUES('run', 0), ('clean', 1), ('building', 1);
)sql";

// An object that content of several trust domains went into is shared with nobody ('?') but those
// in access. No domain yet (NULL): nothing of it was fetched.
constexpr std::string_view kPutObject = R"sql(
INSERT INTO object(id, size, state, run, used, trust_domain)
  VALUES(?1, ?2, ?3, ?4, unixepoch(), ?5)
ON CONFLICT(id) DO UPDATE SET
  size = excluded.size,
  state = MAX(state, excluded.state),
  run = CASE WHEN excluded.state > 0 THEN excluded.run ELSE run END,
  trust_domain = CASE WHEN excluded.trust_domain IS NULL THEN trust_domain
                      WHEN trust_domain IS NULL OR trust_domain = excluded.trust_domain
                      THEN excluded.trust_domain ELSE '?' END
RETURNING row)sql";

constexpr std::string_view kOwnObject = R"sql(
INSERT INTO object(id, size, state, run, used, trust_domain)
  VALUES(?1, ?2, 0, 0, unixepoch(), NULL)
ON CONFLICT(id) DO UPDATE SET size = excluded.size
RETURNING row)sql";

constexpr std::string_view kPutImage = R"sql(
INSERT INTO image(manifest, anchor, trust_domain, resident, added, objects, bytes, used, wanted,
                  pinned)
  VALUES(?1, ?2, ?3, 0, unixepoch(), ?4, ?5, unixepoch(), 1, 0)
ON CONFLICT(manifest) DO UPDATE SET anchor = excluded.anchor, used = excluded.used, wanted = 1
RETURNING row)sql";

constexpr std::string_view kUnverified = R"sql(
SELECT COUNT(*) FROM owner JOIN object ON object.row = owner.object
WHERE owner.image = ?1 AND NOT (state = 2 OR (state = 1 AND run = ?2)))sql";

// Who may use an object: all, the domain ?2 that has brought it, alone or later.
constexpr const char* kMayUse =
    " AND (?3 OR object.trust_domain IN ('', ?2) OR EXISTS (SELECT 1 FROM access "
    "WHERE access.object = object.row AND access.trust_domain IN ('', ?2)))";

constexpr std::string_view kCountOwners = R"sql(
SELECT COUNT(*), COALESCE(SUM(wanted), 0) FROM owner JOIN image ON image.row = owner.image
WHERE object = (SELECT row FROM object WHERE id = ?1))sql";

constexpr const char* kSettings =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -8192;"
    "PRAGMA temp_store = MEMORY;";

}  // namespace

Result<std::string> index_fault(Database& database) {
  // Every way in which reading fails because of what is in the file is an answer, not an error.
  const auto look = [&](const std::string& sql) -> Result<std::int64_t> {
    IMSY_TRY_ASSIGN(auto statement, database.prepare(sql));
    return statement.run_for_integer();
  };
  const auto is_fault = [](const Error& error) {
    return error.code() == Errc::kCorrupt || error.code() == Errc::kInternal ||
           error.code() == Errc::kNotFound;
  };
  const auto version = look("PRAGMA user_version");
  if (!version && is_fault(version.error())) return version.error().message();
  if (!version) return version.error();
  if (*version == 0) return std::string("the file is empty");
  if (*version < kIndexVersion) return std::string("it is of an older version");
  if (*version != kIndexVersion) {
    return Error(Errc::kFailedPrecondition,
                 "the store's index has version " + std::to_string(*version) +
                     ", which this program does not know; use a newer program, or remove index.db "
                     "to have it rebuilt");
  }
  const auto clean = look("SELECT value FROM meta WHERE key = 'clean'");
  if (!clean && is_fault(clean.error())) return clean.error().message();
  if (!clean) return clean.error();
  if (*clean == 1) return std::string();
  // After a crash, what promises rest on is looked through. Chunk hints need no such care.
  for (const char* table : {"meta", "image", "owner", "object", "access"}) {
    auto statement = database.prepare("PRAGMA quick_check(" + std::string(table) + ")");
    const auto row = statement ? statement->step() : Result<bool>(statement.error());
    if (!row && is_fault(row.error())) return row.error().message();
    if (!row) return row.error();
    if (!*row || statement->text(0) != "ok") return "damaged table " + std::string(table);
  }
  return std::string();
}

Status create_index(Database& database) {
  IMSY_TRY_ASSIGN(auto transaction, Transaction::begin(database));
  IMSY_TRY(database.run(kTables));
  IMSY_TRY(database.run(("PRAGMA user_version = " + std::to_string(kIndexVersion)).c_str()));
  return transaction.commit();
}

Result<std::unique_ptr<Index::Writer>> Index::Writer::open(const std::string& path) {
  auto writer = std::make_unique<Writer>();
  IMSY_TRY_ASSIGN(writer->database, Database::open(path, Database::Mode::kCreate));
  Database& database = writer->database;
  IMSY_TRY(database.run(kSettings));
  IMSY_TRY_ASSIGN(auto version, database.prepare("PRAGMA user_version"));
  IMSY_TRY_ASSIGN(const std::int64_t found, version.run_for_integer());
  if (found == 0) IMSY_TRY(create_index(database));
  IMSY_TRY_ASSIGN(writer->put_object, database.prepare(kPutObject));
  IMSY_TRY_ASSIGN(writer->put_access,
                  database.prepare("INSERT OR IGNORE INTO access(object, trust_domain) "
                                   "VALUES(?1, ?2)"));
  IMSY_TRY_ASSIGN(writer->put_chunk,
                  database.prepare("INSERT OR IGNORE INTO chunk(key, object, offset) "
                                   "VALUES(?1, ?2, ?3)"));
  IMSY_TRY_ASSIGN(writer->drop_chunk,
                  database.prepare("DELETE FROM chunk WHERE key = ?1 AND offset = ?3 AND "
                                   "object = (SELECT row FROM object WHERE id = ?2)"));
  IMSY_TRY_ASSIGN(writer->touch,
                  database.prepare("UPDATE object SET used = unixepoch() WHERE id = ?1"));
  IMSY_TRY_ASSIGN(writer->count_owners, database.prepare(kCountOwners));
  IMSY_TRY_ASSIGN(writer->own_object, database.prepare(kOwnObject));
  IMSY_TRY_ASSIGN(writer->put_owner,
                  database.prepare("INSERT OR IGNORE INTO owner(image, object) VALUES(?1, ?2)"));
  IMSY_TRY_ASSIGN(writer->set_mixed,
                  database.prepare("UPDATE object SET trust_domain = '?' WHERE id = ?1"));
  IMSY_TRY_ASSIGN(writer->distrust,
                  database.prepare("UPDATE object SET state = 0, run = 0 WHERE id = ?1"));
  IMSY_TRY_ASSIGN(
      writer->distrust_all,
      database.prepare("UPDATE image SET resident = 0 WHERE row IN (SELECT image FROM owner "
                       "WHERE object = (SELECT row FROM object WHERE id = ?1))"));
  return writer;
}

Result<std::int64_t> Index::Writer::object_row(const ObjectRow& object, std::int64_t state,
                                               std::int64_t run) {
  put_object.bind(1, object.id)
      .bind(2, static_cast<std::int64_t>(object.size))
      .bind(3, state)
      .bind(4, run);
  if (object.trust_domain) {
    put_object.bind(5, *object.trust_domain);
  } else {
    put_object.bind_null(5);
  }
  return put_object.run_for_integer();
}

Status Index::Writer::put_image(const ImageRow& image, const cdc::Manifest& manifest,
                                std::vector<cdc::ObjectId>* created) {
  const cdc::Objects& objects = manifest.objects();
  const cdc::Tree& tree = manifest.tree();
  std::int64_t count = 0;
  std::int64_t bytes = 0;
  for (std::uint32_t i = 0; i < objects.count(); ++i) {
    count += tree.object_size(i) > 0 ? 1 : 0;
    bytes += static_cast<std::int64_t>(tree.object_size(i));
  }
  IMSY_TRY_ASSIGN(auto put, database.prepare(kPutImage));
  IMSY_TRY_ASSIGN(const std::int64_t row, put.bind(1, image.manifest)
                                              .bind(2, image.anchor_text)
                                              .bind(3, image.trust_domain)
                                              .bind(4, count)
                                              .bind(5, bytes)
                                              .run_for_integer());
  IMSY_TRY_ASSIGN(auto newest, database.prepare("SELECT COALESCE(MAX(row), 0) FROM object"));
  IMSY_TRY_ASSIGN(const std::int64_t before, newest.run_for_integer());
  for (std::uint32_t i = 0; i < objects.count(); ++i) {
    // The empty object is always there and belongs to nobody.
    if (tree.object_size(i) == 0) continue;
    IMSY_TRY_ASSIGN(const std::int64_t object,
                    own_object.bind(1, objects.id(i))
                        .bind(2, static_cast<std::int64_t>(tree.object_size(i)))
                        .run_for_integer());
    if (created != nullptr && object > before) created->push_back(objects.id(i));
    IMSY_TRY(put_owner.bind(1, row).bind(2, object).run());
  }
  return {};
}

Result<std::int64_t> Index::Writer::image_row(const Digest& manifest) {
  IMSY_TRY_ASSIGN(auto find, database.prepare("SELECT row FROM image WHERE manifest = ?1"));
  auto row = find.bind(1, manifest).run_for_integer();
  if (!row && row.error().code() == Errc::kNotFound) {
    return Error(Errc::kNotFound, "image " + manifest.to_string() + " is not in the store");
  }
  return row;
}

Result<std::int64_t> Index::Writer::count_unverified(std::int64_t image, std::int64_t run) {
  IMSY_TRY_ASSIGN(auto count, database.prepare(kUnverified));
  return count.bind(1, image).bind(2, run).run_for_integer();
}

Result<std::unique_ptr<Index::Reader>> Index::Reader::open(const std::string& path) {
  auto reader = std::make_unique<Reader>();
  IMSY_TRY_ASSIGN(reader->database, Database::open(path, Database::Mode::kCreate));
  Database& database = reader->database;
  IMSY_TRY(database.run(kSettings));
  // What stands above the leaves of all tables, with 10 million chunks.
  IMSY_TRY(database.run("PRAGMA cache_size = -16384"));
  std::string find =
      "SELECT object.id, offset FROM chunk JOIN object ON object.row = chunk.object WHERE key = ?1";
  find.append(kMayUse).append(" LIMIT 8");
  IMSY_TRY_ASSIGN(reader->find, database.prepare(find));
  std::string find_alone = "SELECT 1 FROM object WHERE id = ?1 AND state > 0";
  find_alone.append(kMayUse);
  IMSY_TRY_ASSIGN(reader->find_alone, database.prepare(find_alone));
  IMSY_TRY_ASSIGN(reader->standing,
                  database.prepare("SELECT state, run, object.trust_domain, access.trust_domain, "
                                   "unixepoch() - used FROM object LEFT JOIN access ON "
                                   "access.object = object.row WHERE id = ?1"));
  IMSY_TRY_ASSIGN(reader->image,
                  database.prepare("SELECT resident, wanted, objects, bytes FROM image "
                                   "WHERE manifest = ?1"));
  IMSY_TRY_ASSIGN(reader->owners, database.prepare(kCountOwners));
  return reader;
}

Status Index::Reader::find_chunk(Wanted& wanted, const std::string& trust_domain, DedupScope scope,
                                 std::vector<ChunkPlace>& places) {
  IMSY_TRY(hold());
  const std::int64_t any{scope == DedupScope::kNode};
  find.bind(1, wanted.key()).bind(2, trust_domain).bind(3, any);
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, find.step());
    if (!row) break;
    const auto id = find.digest(0);
    if (id) places.push_back({*id, static_cast<std::uint64_t>(find.integer(1))});
  }
  if (!places.empty()) return {};
  IMSY_TRY_ASSIGN(const bool row,
                  find_alone.bind(1, wanted.alone()).bind(2, trust_domain).bind(3, any).step());
  if (row) places.push_back({wanted.alone(), 0});
  find_alone.reset();
  return {};
}

Status Index::Reader::hold() {
  if (!held) IMSY_TRY(database.run("BEGIN"));
  held = true;
  return {};
}

void Index::Reader::release() {
  if (held) ignore(database.run("COMMIT"), "nothing was written");
  held = false;
}

Status Index::Reader::read_standing(const cdc::ObjectId& object, std::int64_t run,
                                    Standing& found) {
  release();
  standing.bind(1, object);
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, standing.step());
    if (!row) return {};
    const std::int64_t state = standing.integer(0);
    const bool ours =
        state == kStateDurable || (state == kStateComplete && standing.integer(1) == run);
    found.trust = ours                      ? Trust::kVerified
                  : state == kStateComplete ? Trust::kUnverified
                                            : Trust::kIncomplete;
    found.unused = std::chrono::seconds(standing.integer(4));
    if (!standing.is_null(2)) found.trust_domain = standing.text(2);
    if (!standing.is_null(3)) found.others.push_back(standing.text(3));
  }
}

}  // namespace imsy::cas
