#include "snapshotter/database.h"

#include <fcntl.h>

#include <chrono>
#include <unordered_map>

#include "common/io.h"
#include "common/log.h"

namespace imsy::snapshotter {
namespace {

// Slots are 30 bits wide in the lazy tree's node ids.
constexpr std::int64_t kSlotLimit = (std::int64_t{1} << 30) - 1;
// Sources beyond these have not worked for a long time.
constexpr std::int64_t kSourcesKept = 8;
// Of a name that many keys end with.
constexpr std::int64_t kKeysMax = 16;

// Step i brings a database from version i to version i + 1. Steps are never edited, only appended.
const std::vector<std::string> kMigrations = {
    R"(
CREATE TABLE images (
  slot        INTEGER PRIMARY KEY AUTOINCREMENT,
  anchor      TEXT NOT NULL UNIQUE,
  anchor_text TEXT NOT NULL,
  data_layers INTEGER NOT NULL,
  manifest    TEXT NOT NULL,
  trust       TEXT NOT NULL,
  namespace   TEXT NOT NULL,
  config      TEXT
) STRICT;
CREATE INDEX images_by_manifest ON images (manifest);

CREATE TABLE sources (
  slot       INTEGER NOT NULL REFERENCES images ON DELETE CASCADE,
  host       TEXT NOT NULL,
  repository TEXT NOT NULL,
  endpoint   TEXT NOT NULL,
  worked_ns  INTEGER NOT NULL,
  PRIMARY KEY (slot, host, repository, endpoint)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshots (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  key        TEXT NOT NULL UNIQUE,
  parent     INTEGER REFERENCES snapshots ON DELETE RESTRICT,
  kind       INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),
  created_ns INTEGER NOT NULL,
  updated_ns INTEGER NOT NULL,
  size       INTEGER NOT NULL,
  inodes     INTEGER NOT NULL,
  namespace  TEXT NOT NULL,
  mount      INTEGER NOT NULL,
  directory  INTEGER UNIQUE,
  slot       INTEGER REFERENCES images ON DELETE RESTRICT,
  link       INTEGER,
  chain      TEXT
) STRICT;
CREATE INDEX snapshots_by_parent ON snapshots (parent);
CREATE INDEX snapshots_by_slot ON snapshots (slot);
CREATE UNIQUE INDEX snapshots_by_chain ON snapshots (chain, COALESCE(parent, 0))
  WHERE chain IS NOT NULL;

CREATE TABLE labels (
  snapshot INTEGER NOT NULL REFERENCES snapshots ON DELETE CASCADE,
  key      TEXT NOT NULL,
  value    TEXT NOT NULL,
  PRIMARY KEY (snapshot, key)
) STRICT, WITHOUT ROWID;
)",
    R"(
ALTER TABLE snapshots ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE snapshots ADD COLUMN volatile TEXT NOT NULL DEFAULT '';
)"};

constexpr std::string_view kRowColumns =
    "SELECT s.id, s.key, p.key, s.kind, s.created_ns, s.updated_ns, s.size, s.inodes, s.mount,"
    " s.slot, s.link, i.data_layers, s.directory, s.reason, s.volatile"
    " FROM snapshots s LEFT JOIN snapshots p ON p.id = s.parent"
    " LEFT JOIN images i ON i.slot = s.slot ";

constexpr std::string_view kImageColumns =
    "SELECT slot, anchor, anchor_text, data_layers, manifest, trust, namespace, config FROM "
    "images ";

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string sql(std::string_view head, std::string_view tail) {
  return std::string(head) + std::string(tail);
}

Error not_found(const std::string& key) {
  return Error(Errc::kNotFound, "snapshot " + key + " does not exist");
}

std::optional<std::int64_t> optional_number(const Statement& row, int column) {
  if (row.is_null(column)) return std::nullopt;
  return row.number(column);
}

std::optional<ImageLink> link_at(const Statement& row, int column) {
  if (row.is_null(column)) return std::nullopt;
  const auto link = static_cast<std::uint32_t>(row.number(column + 1));
  return ImageLink{row.number(column), link, link == row.number(column + 2)};
}

Row row_of(const Statement& statement) {
  Row row;
  row.id = statement.number(0);
  row.info.name = statement.text(1);
  row.info.parent = statement.text(2);
  row.info.kind = static_cast<Kind>(statement.number(3));
  row.info.created_ns = statement.number(4);
  row.info.updated_ns = statement.number(5);
  row.usage = Usage{statement.number(6), statement.number(7)};
  row.mount = static_cast<MountKind>(statement.number(8));
  row.image = link_at(statement, 9);
  row.directory = optional_number(statement, 12);
  row.reason = statement.text(13);
  row.volatile_boot = statement.text(14);
  return row;
}

Result<ImageRecord> image_of(const Statement& statement) {
  ImageRecord image;
  image.slot = statement.number(0);
  IMSY_TRY_ASSIGN(image.anchor_layer, Digest::parse(statement.text(1)));
  image.anchor_text = statement.text(2);
  image.data_layers = static_cast<std::uint32_t>(statement.number(3));
  IMSY_TRY_ASSIGN(image.manifest, Digest::parse(statement.text(4)));
  image.trust_domain = statement.text(5);
  image.name_space = statement.text(6);
  if (!statement.is_null(7)) {
    IMSY_TRY_ASSIGN(image.config, Digest::parse(statement.text(7)));
  }
  return image;
}

std::optional<std::string> text_of(const std::optional<Digest>& digest) {
  if (!digest) return std::nullopt;
  return digest->to_string();
}

Result<Labels> read_labels(Sqlite& db, std::int64_t id) {
  Statement select(db, "SELECT key, value FROM labels WHERE snapshot = ?");
  select.bind(id);
  Labels labels;
  while (true) {
    IMSY_TRY_ASSIGN(const bool more, select.step());
    if (!more) return labels;
    labels.emplace(select.text(0), select.text(1));
  }
}

// The first row of `select`, with its labels.
Result<std::optional<Row>> read_row(Sqlite& db, Statement& select) {
  IMSY_TRY_ASSIGN(const bool found, select.step());
  if (!found) return std::optional<Row>();
  Row row = row_of(select);
  IMSY_TRY_ASSIGN(row.info.labels, read_labels(db, row.id));
  return std::optional(std::move(row));
}

Result<Row> get_row(Sqlite& db, const std::string& key) {
  Statement select(db, sql(kRowColumns, "WHERE s.key = ?"));
  select.bind(key);
  IMSY_TRY_ASSIGN(auto row, read_row(db, select));
  if (!row) return not_found(key);
  return std::move(*row);
}

Result<std::optional<Row>> get_image_row(Sqlite& db, const std::string& chain_id,
                                         const std::string& parent) {
  Statement select(db, sql(kRowColumns, "WHERE s.chain = ? AND COALESCE(p.key, '') = ?"));
  select.bind(chain_id).bind(parent);
  return read_row(db, select);
}

Result<std::optional<ImageRecord>> first_image(Statement& select) {
  IMSY_TRY_ASSIGN(const bool found, select.step());
  if (!found) return std::optional<ImageRecord>();
  IMSY_TRY_ASSIGN(auto image, image_of(select));
  return std::optional(std::move(image));
}

Result<std::optional<ImageRecord>> get_image(Sqlite& db, std::int64_t slot) {
  Statement select(db, sql(kImageColumns, "WHERE slot = ?"));
  return first_image(select.bind(slot));
}

Result<std::optional<ImageRecord>> get_image(Sqlite& db, const Digest& anchor_layer) {
  Statement select(db, sql(kImageColumns, "WHERE anchor = ?"));
  return first_image(select.bind(anchor_layer.to_string()));
}

// Empty values are not stored: containerd takes them for absent.
Status write_labels(Sqlite& db, std::int64_t id, const Labels& labels) {
  Statement insert(db, "INSERT OR REPLACE INTO labels (snapshot, key, value) VALUES (?, ?, ?)");
  for (const auto& [key, value] : labels) {
    if (value.empty()) continue;
    IMSY_TRY(insert.bind(id).bind(key).bind(value).run());
    insert.reset();
  }
  return {};
}

Status delete_labels(Sqlite& db, std::int64_t id) {
  return Statement(db, "DELETE FROM labels WHERE snapshot = ?").bind(id).run();
}

// Whether the query, with its parameters bound, has a row.
Result<bool> any(Statement& select) {
  return select.step();
}

struct Parent {
  std::int64_t id = 0;
  Kind kind = Kind::kCommitted;
};
Result<Parent> find_parent(Sqlite& db, const std::string& key) {
  Statement select(db, "SELECT id, kind FROM snapshots WHERE key = ?");
  IMSY_TRY_ASSIGN(const bool found, select.bind(key).step());
  if (!found) return Error(Errc::kNotFound, "parent snapshot " + key + " does not exist");
  return Parent{select.number(0), static_cast<Kind>(select.number(1))};
}

// What a new row needs besides its labels.
struct NewRow {
  std::string_view key;
  std::optional<std::int64_t> parent;
  Kind kind;
  std::string_view name_space;
  MountKind mount;
  std::optional<std::int64_t> directory;
  std::string_view reason = {};
  std::string_view volatile_boot = {};
};

Result<std::int64_t> insert_row(Sqlite& db, const NewRow& row) {
  const std::int64_t now = now_ns();
  Statement insert(db,
                   "INSERT INTO snapshots (key, parent, kind, created_ns, updated_ns, size, inodes,"
                   " namespace, mount, directory, reason, volatile)"
                   " VALUES (?, ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?)");
  insert.bind(row.key).bind_optional(row.parent).bind(static_cast<std::int64_t>(row.kind));
  insert.bind(now).bind(now).bind(row.name_space).bind(static_cast<std::int64_t>(row.mount));
  IMSY_TRY(insert.bind_optional(row.directory).bind(row.reason).bind(row.volatile_boot).run());
  return db.last_insert_id();
}

// The slot of the image, which is recorded when it is new.
Result<std::int64_t> slot_for(Sqlite& db, const ImageRecord& image) {
  IMSY_TRY_ASSIGN(const auto known, get_image(db, image.anchor_layer));
  if (known) return known->slot;
  Statement insert(db,
                   "INSERT INTO images (anchor, anchor_text, data_layers, manifest, trust,"
                   " namespace, config) VALUES (?, ?, ?, ?, ?, ?, ?)");
  insert.bind(image.anchor_layer.to_string()).bind(image.anchor_text);
  insert.bind(std::int64_t{image.data_layers}).bind(image.manifest.to_string());
  insert.bind(image.trust_domain).bind(image.name_space).bind_optional(text_of(image.config));
  IMSY_TRY(insert.run());
  const std::int64_t slot = db.last_insert_id();
  if (slot > kSlotLimit) {
    return Error(Errc::kNoSpace, "all image slots of this root are used up: start with a new one");
  }
  return slot;
}

Result<Sqlite> connect(const std::filesystem::path& path) {
  IMSY_TRY_ASSIGN(Sqlite db, Sqlite::open(path));
  IMSY_TRY(
      db.run("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"));
  return db;
}

Error explained(const Error& error, const std::filesystem::path& path) {
  if (error.code() != Errc::kCorrupt) return error;
  return Error(Errc::kCorrupt, error.message() + "; " + path.string() +
                                   " is damaged: restore it from a copy, or move the whole root"
                                   " away and remove the snapshotter's images from containerd");
}

}  // namespace

Result<std::unique_ptr<Database>> Database::open(const std::filesystem::path& path) {
  // SQLite gives its other files the mode of this one.
  IMSY_TRY(open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  auto writer = connect(path);
  if (!writer) return explained(writer.error(), path);
  auto reader = connect(path);
  if (!reader) return explained(reader.error(), path);
  std::unique_ptr<Database> db(new Database(std::move(*writer), std::move(*reader)));
  const Status ready = db->prepare_schema(path);
  if (!ready) return explained(ready.error(), path);
  return db;
}

Status Database::prepare_schema(const std::filesystem::path& path) {
  MutexLock lock(writer_mu_);
  {
    Statement check(writer_, "PRAGMA quick_check(1)");
    IMSY_TRY(check.step());
    if (check.text(0) != "ok") return Error(Errc::kCorrupt, "database: " + check.text(0));
  }
  IMSY_TRY_ASSIGN(Transaction transaction, Transaction::begin(writer_));
  IMSY_TRY(writer_.run(
      "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
      "INSERT OR IGNORE INTO meta VALUES ('version', '0'), ('boot_id', ''),"
      " ('node_secret', lower(hex(randomblob(32))))"));
  Statement select(writer_, "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'version'");
  IMSY_TRY(select.step());
  const auto known = static_cast<std::int64_t>(kMigrations.size());
  const std::int64_t version = select.number(0);
  select.reset();
  if (version > known) {
    return Error(Errc::kFailedPrecondition,
                 path.string() + " was written by a newer imsy-snapshotter (version " +
                     std::to_string(version) + ", this one knows " + std::to_string(known) +
                     "): install the newer program, or start with another --root");
  }
  for (std::int64_t step = version; step < known; ++step) {
    IMSY_TRY(writer_.run(kMigrations[static_cast<std::size_t>(step)]));
  }
  IMSY_TRY(Statement(writer_, "UPDATE meta SET value = ? WHERE key = 'version'")
               .bind(std::to_string(known))
               .run());
  Statement secret(writer_, "SELECT value FROM meta WHERE key = 'node_secret'");
  IMSY_TRY(secret.step());
  node_secret_ = secret.text(0);
  secret.reset();
  return transaction.commit();
}

Status Database::change(const std::function<Status(Sqlite&)>& change,
                        std::initializer_list<std::string> keys) {
  const Status changed = change_now(change);
  rows_.forget(keys);
  return changed;
}

Status Database::change_now(const std::function<Status(Sqlite&)>& change) {
  MutexLock lock(writer_mu_);
  if (broken_) {
    return Error(Errc::kUnavailable,
                 "an earlier change could not be written to disk: check the disk, then restart"
                 " imsy-snapshotter");
  }
  IMSY_TRY_ASSIGN(Transaction transaction, Transaction::begin(writer_));
  IMSY_TRY(change(writer_));
  const Status committed = transaction.commit();
  if (committed) return committed;
  // After a failed sync nobody can say what is on disk; only a new start may look.
  if (committed.error().code() == Errc::kInternal) {
    broken_ = true;
    log::error("{}; no change is accepted until a restart", committed.error().message());
  }
  return committed;
}

Result<std::map<Kind, std::uint64_t>> Database::count_kinds() {
  MutexLock lock(reader_mu_);
  Statement select(reader_, "SELECT kind, COUNT(*) FROM snapshots GROUP BY kind");
  std::map<Kind, std::uint64_t> counts;
  while (true) {
    IMSY_TRY_ASSIGN(const bool more, select.step());
    if (!more) return counts;
    counts[static_cast<Kind>(select.number(0))] = static_cast<std::uint64_t>(select.number(1));
  }
}

Result<std::shared_ptr<const Row>> Database::find(const std::string& key) {
  if (auto row = rows_.find(key)) return row;
  const std::uint64_t generation = rows_.generation();
  MutexLock lock(reader_mu_);
  IMSY_TRY_ASSIGN(const Transaction consistent, Transaction::begin_read(reader_));
  IMSY_TRY_ASSIGN(Row read, get_row(reader_, key));
  auto row = std::make_shared<const Row>(std::move(read));
  rows_.keep(generation, key, row);
  return row;
}

Result<Row> Database::get(const std::string& key) {
  IMSY_TRY_ASSIGN(const auto row, find(key));
  return *row;
}

Result<std::vector<std::string>> Database::find_keys(const std::string& name) {
  MutexLock lock(reader_mu_);
  Statement select(reader_,
                   "SELECT key FROM snapshots WHERE key = ?1 OR chain = ?1"
                   " OR substr(key, -length(?1) - 1) IN ('/' || ?1, ' ' || ?1)"
                   " ORDER BY id LIMIT ?2");
  select.bind(name).bind(kKeysMax);
  std::vector<std::string> keys;
  while (true) {
    IMSY_TRY_ASSIGN(const bool more, select.step());
    if (!more) return keys;
    keys.push_back(select.text(0));
  }
}

Result<std::vector<Layer>> Database::chain(const std::string& key) {
  std::vector<Layer> layers;
  // A parent stays as long as it has children, so this need not be one transaction.
  for (std::string at = key; !at.empty();) {
    IMSY_TRY_ASSIGN(const auto row, find(at));
    layers.push_back({row->id, row->directory, row->info.kind, row->image, row->volatile_boot});
    at = row->info.parent;
  }
  return layers;
}

Result<std::vector<Info>> Database::list(const Filter& filter) {
  MutexLock lock(reader_mu_);
  IMSY_TRY_ASSIGN(const Transaction consistent, Transaction::begin_read(reader_));
  std::unordered_map<std::int64_t, Labels> labels;
  Statement pairs(reader_, "SELECT snapshot, key, value FROM labels");
  while (true) {
    IMSY_TRY_ASSIGN(const bool more, pairs.step());
    if (!more) break;
    labels[pairs.number(0)].emplace(pairs.text(1), pairs.text(2));
  }
  // containerd takes the first that fits when it looks for what Prepare found.
  Statement select(reader_, sql(kRowColumns, "ORDER BY s.slot IS NULL, s.id"));
  std::vector<Info> infos;
  while (true) {
    IMSY_TRY_ASSIGN(const bool more, select.step());
    if (!more) return infos;
    Row row = row_of(select);
    if (const auto own = labels.find(row.id); own != labels.end()) {
      row.info.labels = std::move(own->second);
    }
    if (filter.matches(row.info)) infos.push_back(std::move(row.info));
  }
}

Result<std::optional<Row>> Database::find_image_snapshot(const std::string& chain_id,
                                                         const std::string& parent) {
  MutexLock lock(reader_mu_);
  IMSY_TRY_ASSIGN(const Transaction consistent, Transaction::begin_read(reader_));
  return get_image_row(reader_, chain_id, parent);
}

Result<std::vector<ImageRecord>> Database::images() {
  MutexLock lock(reader_mu_);
  Statement select(reader_, sql(kImageColumns, "ORDER BY slot"));
  std::vector<ImageRecord> images;
  while (true) {
    IMSY_TRY_ASSIGN(const bool more, select.step());
    if (!more) return images;
    IMSY_TRY_ASSIGN(auto image, image_of(select));
    images.push_back(std::move(image));
  }
}

Result<std::optional<ImageRecord>> Database::find_image(const Digest& anchor_layer) {
  MutexLock lock(reader_mu_);
  return get_image(reader_, anchor_layer);
}

Result<ImageRecord> Database::image(std::int64_t slot) {
  MutexLock lock(reader_mu_);
  IMSY_TRY_ASSIGN(auto image, get_image(reader_, slot));
  if (!image) return Error(Errc::kNotFound, "image " + std::to_string(slot) + " does not exist");
  return std::move(*image);
}

Result<bool> Database::has_manifest(const Digest& manifest) {
  MutexLock lock(reader_mu_);
  Statement select(reader_, "SELECT 1 FROM images WHERE manifest = ?");
  return any(select.bind(manifest.to_string()));
}

Result<bool> Database::is_complete(std::int64_t slot) {
  MutexLock lock(reader_mu_);
  Statement select(reader_,
                   "SELECT 1 FROM snapshots s JOIN images i ON i.slot = s.slot"
                   " WHERE s.slot = ? AND s.link = i.data_layers");
  return any(select.bind(slot));
}

Result<std::vector<Source>> Database::sources(std::int64_t slot) {
  MutexLock lock(reader_mu_);
  Statement select(reader_,
                   "SELECT host, repository, endpoint FROM sources WHERE slot = ?"
                   " ORDER BY worked_ns DESC");
  select.bind(slot);
  std::vector<Source> sources;
  while (true) {
    IMSY_TRY_ASSIGN(const bool more, select.step());
    if (!more) return sources;
    sources.push_back({select.text(0), select.text(1), select.text(2)});
  }
}

Result<std::set<std::int64_t>> Database::directories() {
  MutexLock lock(reader_mu_);
  Statement select(reader_, "SELECT directory FROM snapshots WHERE directory IS NOT NULL");
  std::set<std::int64_t> directories;
  while (true) {
    IMSY_TRY_ASSIGN(const bool more, select.step());
    if (!more) return directories;
    directories.insert(select.number(0));
  }
}

Status Database::create(const NewSnapshot& snapshot) {
  return change(
      [&](Sqlite& db) -> Status {
        if (snapshot.parent_id) {
          IMSY_TRY_ASSIGN(const Parent parent, find_parent(db, snapshot.parent));
          if (parent.id != *snapshot.parent_id) {
            return Error(Errc::kNotFound, "parent snapshot " + snapshot.parent + " was removed");
          }
          if (parent.kind != Kind::kCommitted) {
            return Error(Errc::kInvalid,
                         "parent snapshot " + snapshot.parent + " is not committed");
          }
        }
        Statement taken(db, "SELECT 1 FROM snapshots WHERE key = ?");
        IMSY_TRY_ASSIGN(const bool exists, any(taken.bind(snapshot.key)));
        if (exists) {
          return Error(Errc::kAlreadyExists, "snapshot " + snapshot.key + " already exists");
        }
        IMSY_TRY_ASSIGN(const std::int64_t id,
                        insert_row(db, {snapshot.key, snapshot.parent_id, snapshot.kind,
                                        snapshot.name_space, snapshot.mount, snapshot.directory,
                                        snapshot.reason, snapshot.volatile_boot}));
        return write_labels(db, id, snapshot.labels);
      },
      {snapshot.key});
}

Status Database::commit(const std::string& key, const std::string& name, const Labels& labels,
                        const std::string& parent, const Usage& usage) {
  return change(
      [&](Sqlite& db) -> Status {
        Statement taken(db, "SELECT 1 FROM snapshots WHERE key = ?");
        IMSY_TRY_ASSIGN(const bool exists, any(taken.bind(name)));
        if (exists) return Error(Errc::kAlreadyExists, "snapshot " + name + " already exists");
        IMSY_TRY_ASSIGN(const Row row, get_row(db, key));
        if (row.info.kind != Kind::kActive) {
          return Error(Errc::kFailedPrecondition, "snapshot " + key + " is " +
                                                      std::string(to_string(row.info.kind)) +
                                                      ": only an active one can be committed");
        }
        if (!parent.empty() && parent != row.info.parent) {
          if (!row.info.parent.empty()) {
            return Error(Errc::kInvalid, "snapshot " + key + " has parent " + row.info.parent +
                                             " and cannot be committed on " + parent);
          }
          IMSY_TRY_ASSIGN(const Parent onto, find_parent(db, parent));
          if (onto.kind != Kind::kCommitted) {
            return Error(Errc::kFailedPrecondition,
                         "parent snapshot " + parent + " is not committed");
          }
          IMSY_TRY(Statement(db, "UPDATE snapshots SET parent = ? WHERE id = ?")
                       .bind(onto.id)
                       .bind(row.id)
                       .run());
        }
        const std::int64_t now = now_ns();
        Statement update(db,
                         "UPDATE snapshots SET key = ?, kind = ?, created_ns = ?, updated_ns = ?,"
                         " size = ?, inodes = ?, volatile = '' WHERE id = ?");
        update.bind(name).bind(static_cast<std::int64_t>(Kind::kCommitted)).bind(now).bind(now);
        IMSY_TRY(update.bind(usage.size).bind(usage.inodes).bind(row.id).run());
        IMSY_TRY(delete_labels(db, row.id));
        return write_labels(db, row.id, labels);
      },
      {key, name});
}

Result<Database::Removed> Database::remove(const std::string& key) {
  Removed removed;
  IMSY_TRY(change(
      [&](Sqlite& db) -> Status {
        IMSY_TRY_ASSIGN(const Row row, get_row(db, key));
        Statement children(db, "SELECT 1 FROM snapshots WHERE parent = ?");
        IMSY_TRY_ASSIGN(const bool has_children, any(children.bind(row.id)));
        if (has_children) {
          return Error(Errc::kFailedPrecondition,
                       "cannot remove snapshot " + key + ": others are based on it");
        }
        removed.directory = row.directory;
        IMSY_TRY(Statement(db, "DELETE FROM snapshots WHERE id = ?").bind(row.id).run());
        if (!row.image) return {};
        Statement others(db, "SELECT 1 FROM snapshots WHERE slot = ?");
        IMSY_TRY_ASSIGN(const bool used, any(others.bind(row.image->slot)));
        if (used) return {};
        IMSY_TRY_ASSIGN(removed.image, get_image(db, row.image->slot));
        return Statement(db, "DELETE FROM images WHERE slot = ?").bind(row.image->slot).run();
      },
      {key}));
  return removed;
}

Result<Info> Database::update_labels(const std::string& key, const LabelUpdate& update) {
  Info info;
  IMSY_TRY(change(
      [&](Sqlite& db) -> Status {
        IMSY_TRY_ASSIGN(Row row, get_row(db, key));
        if (update.replace_all) {
          IMSY_TRY(delete_labels(db, row.id));
        } else {
          Statement erase(db, "DELETE FROM labels WHERE snapshot = ? AND key = ?");
          for (const auto& [label, value] : update.values) {
            if (!value.empty()) continue;
            IMSY_TRY(erase.bind(row.id).bind(label).run());
            erase.reset();
          }
        }
        IMSY_TRY(write_labels(db, row.id, update.values));
        IMSY_TRY(Statement(db, "UPDATE snapshots SET updated_ns = ? WHERE id = ?")
                     .bind(now_ns())
                     .bind(row.id)
                     .run());
        IMSY_TRY_ASSIGN(row, get_row(db, key));
        info = std::move(row.info);
        return {};
      },
      {key}));
  return info;
}

Result<Row> Database::add_image_snapshot(const NewImageSnapshot& snapshot) {
  Row row;
  IMSY_TRY(change([&](Sqlite& db) -> Status {
    IMSY_TRY_ASSIGN(auto known, get_image_row(db, snapshot.chain_id, snapshot.parent));
    if (known) {
      row = std::move(*known);
      return {};
    }
    std::optional<std::int64_t> parent_id;
    if (!snapshot.parent.empty()) {
      IMSY_TRY_ASSIGN(const Parent parent, find_parent(db, snapshot.parent));
      parent_id = parent.id;
    }
    IMSY_TRY_ASSIGN(const std::int64_t slot, slot_for(db, snapshot.image));
    // The name has the id in it, which the insertion gives.
    IMSY_TRY_ASSIGN(const std::int64_t id, insert_row(db, {"imsy/new", parent_id, Kind::kCommitted,
                                                           snapshot.image.name_space,
                                                           MountKind::kPlain, snapshot.directory}));
    const std::string name = "imsy/image-" + std::to_string(id) + "/" + snapshot.chain_id;
    Statement update(db,
                     "UPDATE snapshots SET key = ?, slot = ?, link = ?, chain = ? WHERE id = ?");
    update.bind(name).bind(slot).bind(std::int64_t{snapshot.link}).bind(snapshot.chain_id);
    IMSY_TRY(update.bind(id).run());
    IMSY_TRY(write_labels(db, id, snapshot.labels));
    IMSY_TRY_ASSIGN(row, get_row(db, name));
    return {};
  }));
  return row;
}

Status Database::touch_image(std::int64_t slot, const std::string& name_space,
                             const std::optional<Digest>& config) {
  return change([&](Sqlite& db) -> Status {
    Statement update(db, "UPDATE images SET namespace = ?, config = ? WHERE slot = ?");
    return update.bind(name_space).bind_optional(text_of(config)).bind(slot).run();
  });
}

Status Database::remember_source(std::int64_t slot, const Source& source) {
  return change([&](Sqlite& db) -> Status {
    Statement image(db, "SELECT 1 FROM images WHERE slot = ?");
    IMSY_TRY_ASSIGN(const bool exists, any(image.bind(slot)));
    if (!exists) return {};  // removed meanwhile
    Statement insert(db,
                     "INSERT OR REPLACE INTO sources (slot, host, repository, endpoint, worked_ns)"
                     " VALUES (?, ?, ?, ?, ?)");
    insert.bind(slot).bind(source.host).bind(source.repository).bind(source.endpoint);
    IMSY_TRY(insert.bind(now_ns()).run());
    Statement trim(db,
                   "DELETE FROM sources WHERE slot = ?1 AND worked_ns < (SELECT MIN(worked_ns) FROM"
                   " (SELECT worked_ns FROM sources WHERE slot = ?1 ORDER BY worked_ns DESC"
                   " LIMIT ?2))");
    return trim.bind(slot).bind(kSourcesKept).run();
  });
}

Status Database::set_trust_domain(std::int64_t slot, const std::string& trust_domain) {
  return change([&](Sqlite& db) -> Status {
    Statement update(db, "UPDATE images SET trust = ? WHERE slot = ?");
    return update.bind(trust_domain).bind(slot).run();
  });
}

Result<bool> Database::note_boot(const std::string& boot_id) {
  bool changed = false;
  IMSY_TRY(change([&](Sqlite& db) -> Status {
    Statement update(db, "UPDATE meta SET value = ?1 WHERE key = 'boot_id' AND value <> ?1");
    IMSY_TRY(update.bind(boot_id).run());
    changed = db.changes() > 0;
    return {};
  }));
  return changed;
}

}  // namespace imsy::snapshotter
