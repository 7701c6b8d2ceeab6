// On disk: docs/format/store.md.
#include "cas/index_scan.h"

#include "cas/index_connection.h"

namespace imsy::cas {
namespace {

constexpr std::string_view kDangling = R"sql(
SELECT
  (SELECT COUNT(*) FROM access WHERE object NOT IN (SELECT row FROM object)) +
  (SELECT COUNT(*) FROM owner WHERE object NOT IN (SELECT row FROM object)
                                 OR image NOT IN (SELECT row FROM image)))sql";

constexpr std::string_view kImage = R"sql(
SELECT anchor, trust_domain, resident, (SELECT COUNT(*) FROM owner WHERE image = image.row)
FROM image WHERE manifest = ?1)sql";

constexpr std::string_view kOwners = R"sql(
SELECT manifest FROM object JOIN owner ON owner.object = object.row
  JOIN image ON image.row = owner.image
WHERE object.id = ?1 ORDER BY manifest)sql";

constexpr std::string_view kUnowned = R"sql(
SELECT id, state FROM object WHERE id >= ?1
  AND NOT EXISTS (SELECT 1 FROM owner WHERE owner.object = object.row)
ORDER BY id LIMIT ?2)sql";

Result<std::vector<Digest>> all_digests(Statement& statement) {
  std::vector<Digest> found;
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, statement.step());
    if (!row) return found;
    const auto digest = statement.digest(0);
    if (!digest) {
      statement.reset();
      return digest.error();
    }
    found.push_back(*digest);
  }
}

}  // namespace

Result<IndexScan> IndexScan::open(const Layout& layout) {
  IMSY_TRY_ASSIGN(auto database, Database::open(layout.index_path(), Database::Mode::kCreate));
  IMSY_TRY(database.run("PRAGMA temp_store = MEMORY"));
  IndexScan scan(std::move(database));
  IMSY_TRY_ASSIGN(scan.owners_, scan.database_.prepare(kOwners));
  IMSY_TRY_ASSIGN(scan.knows_, scan.database_.prepare("SELECT COUNT(*) FROM object WHERE id = ?1"));
  return scan;
}

Result<std::string> IndexScan::fault() {
  return index_fault(database_);
}

Result<std::uint64_t> IndexScan::dangling_rows() {
  IMSY_TRY_ASSIGN(auto count, database_.prepare(kDangling));
  IMSY_TRY_ASSIGN(const std::int64_t rows, count.run_for_integer());
  return static_cast<std::uint64_t>(rows);
}

Result<std::vector<Digest>> IndexScan::images_from(const Digest& first) {
  IMSY_TRY_ASSIGN(
      auto list,
      database_.prepare("SELECT manifest FROM image WHERE manifest >= ?1 ORDER BY manifest"));
  return all_digests(list.bind(1, first));
}

Result<std::optional<IndexScan::Image>> IndexScan::image(const Digest& manifest) {
  IMSY_TRY_ASSIGN(auto find, database_.prepare(kImage));
  IMSY_TRY_ASSIGN(const bool row, find.bind(1, manifest).step());
  if (!row) return std::optional<Image>();
  return std::optional(Image{{manifest, find.text(0), find.text(1)},
                             find.integer(2) != 0,
                             static_cast<std::uint64_t>(find.integer(3))});
}

Result<std::vector<Digest>> IndexScan::owners_of(const cdc::ObjectId& object) {
  return all_digests(owners_.bind(1, object));
}

Result<bool> IndexScan::knows(const cdc::ObjectId& object) {
  IMSY_TRY_ASSIGN(const std::int64_t rows, knows_.bind(1, object).run_for_integer());
  return rows > 0;
}

Result<std::vector<IndexScan::Object>> IndexScan::unowned_from(const cdc::ObjectId& first,
                                                               std::size_t limit) {
  IMSY_TRY_ASSIGN(auto list, database_.prepare(kUnowned));
  list.bind(1, first).bind(2, static_cast<std::int64_t>(limit));
  std::vector<Object> found;
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, list.step());
    if (!row) return found;
    IMSY_TRY_ASSIGN(const Digest id, list.digest(0));
    found.push_back({id, list.integer(1) > 0});
  }
}

}  // namespace imsy::cas
