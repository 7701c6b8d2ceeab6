// The part of the index that is acknowledged, what follows a crash, and reports.
// On disk: docs/format/store.md.
#include <unordered_set>

#include "cas/index.h"
#include "cas/index_connection.h"

namespace imsy::cas {
namespace {

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

Error unknown_image(const Digest& manifest) {
  return Error(Errc::kFailedPrecondition,
               "image " + manifest.to_string() + " is not in the store: add it first");
}

}  // namespace

Status Index::add_image(const ImageRow& image, const cdc::Manifest& manifest) {
  MutexLock lock(write_mu_);
  Writer& writer = *writer_;
  return durably([&] { return writer.put_image(image, manifest); });
}

Status Index::remove_image(const Digest& manifest) {
  MutexLock lock(write_mu_);
  Writer& writer = *writer_;
  return durably([&]() -> Status {
    const auto row = writer.image_row(manifest);
    if (!row && row.error().code() == Errc::kNotFound) return {};
    if (!row) return row.error();
    for (const char* sql : {kRemoveUnfetched, "DELETE FROM owner WHERE image = ?1",
                            "DELETE FROM image WHERE row = ?1"}) {
      IMSY_TRY_ASSIGN(auto statement, writer.database.prepare(sql));
      IMSY_TRY(statement.bind(1, *row).run());
    }
    return {};
  });
}

Result<bool> Index::is_resident(const Digest& manifest) {
  MutexLock lock(read_mu_);
  auto resident = watch(reader_->resident.bind(1, manifest).run_for_integer());
  if (!resident && resident.error().code() == Errc::kNotFound) return false;
  if (!resident) return resident.error();
  return *resident != 0;
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
                            "UPDATE image SET resident = 1 WHERE row = ?1"}) {
      IMSY_TRY_ASSIGN(auto statement, writer.database.prepare(sql));
      IMSY_TRY(statement.bind(1, *row).run());
    }
    return {};
  });
}

Result<std::vector<Index::ImageRow>> Index::images() {
  MutexLock lock(read_mu_);
  std::vector<ImageRow> found;
  IMSY_TRY_ASSIGN(auto list,
                  reader_->database.prepare("SELECT manifest, anchor, trust_domain FROM image"));
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, watch(list.step()));
    if (!row) return found;
    IMSY_TRY_ASSIGN(const Digest manifest, list.digest(0));
    found.push_back({manifest, list.text(1), list.text(2)});
  }
}

Status Index::adopt(const std::vector<Layout::ObjectFile>& files) {
  MutexLock lock(write_mu_);
  Writer& writer = *writer_;
  return durably([&]() -> Status {
    std::unordered_set<cdc::ObjectId> known;
    IMSY_TRY_ASSIGN(auto list, writer.database.prepare("SELECT id FROM object WHERE state > 0"));
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
    return {};
  });
}

Status Index::finish_building() {
  MutexLock lock(write_mu_);
  Database& database = writer_->database;
  return durably([&] { return database.run("DELETE FROM meta WHERE key = 'building'"); });
}

Status Index::stats(StoreStats& stats) {
  IMSY_TRY(flush());
  MutexLock lock(read_mu_);
  return watch(Index::stats(reader_->database, stats));
}

Status Index::stats(Database& database, StoreStats& stats) {
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
  IMSY_TRY_ASSIGN(auto images, database.prepare("SELECT manifest, objects, bytes, resident FROM "
                                                "image ORDER BY added, row"));
  for (;;) {
    IMSY_TRY_ASSIGN(const bool row, images.step());
    if (!row) return {};
    StoreStats::Image image;
    IMSY_TRY_ASSIGN(image.manifest, images.digest(0));
    image.objects = static_cast<std::uint64_t>(images.integer(1));
    image.bytes = static_cast<std::uint64_t>(images.integer(2));
    image.resident = images.integer(3) != 0;
    stats.images.push_back(image);
  }
}

}  // namespace imsy::cas
