// The connections of the index, with their statements: one writes, two look up, so that look-ups
// wait neither for a batch nor for each other. Internal to cas/index*.cc.
//
// Threads: as Database; each is guarded by a mutex of its own.
// On disk: docs/format/store.md.
#pragma once

#include "cas/index.h"
#include "cas/sqlite.h"

namespace imsy::cas {

inline constexpr std::int64_t kIndexVersion = 4;

// Values of object.state.
inline constexpr std::int64_t kStateIncomplete = 0;
inline constexpr std::int64_t kStateComplete = 1;  // verified in run object.run
inline constexpr std::int64_t kStateDurable = 2;   // verified, and synced since

// What is wrong with the file, or "" when nothing is. kFailedPrecondition: a newer version.
Result<std::string> index_fault(Database& database);
// The tables of a new index.
Status create_index(Database& database);

struct Index::Writer {
  static Result<std::unique_ptr<Writer>> open(const std::string& path);

  Database database;
  Statement put_object;    // id, size, state, run, trust domain -> row
  Statement put_access;    // object row, trust domain
  Statement put_chunk;     // key, object row, offset
  Statement drop_chunk;    // key, object id, offset
  Statement touch;         // object id
  Statement count_owners;  // object id -> images, and those of them that want it
  Statement own_object;    // id, size -> row
  Statement put_owner;     // image row, object row
  Statement set_mixed;     // object id
  Statement distrust;      // object id
  Statement distrust_all;  // object id: of the images that own it

  // The row of an object, made or brought up to date.
  Result<std::int64_t> object_row(const ObjectRow& object, std::int64_t state, std::int64_t run);
  // `created`, unless it is null: gets the objects that had no row.
  Status put_image(const ImageRow& image, const cdc::Manifest& manifest,
                   std::vector<cdc::ObjectId>* created);
  // Rows of an image; kNotFound.
  Result<std::int64_t> image_row(const Digest& manifest);
  // Objects of the image that are neither on record nor verified in `run`.
  Result<std::int64_t> count_unverified(std::int64_t image, std::int64_t run);
};

// A chunk to look up.
class Index::Wanted {
 public:
  explicit Wanted(const cdc::Chunk& chunk) : chunk_(&chunk), key_(key_of(chunk.digest)) {}

  const cdc::Chunk* chunk() const { return chunk_; }
  ChunkKey key() const { return key_; }
  // The object that it would be alone. A chunk that is all of a small file has no row of its own:
  // the object's name follows from it.
  const cdc::ObjectId& alone() {
    if (!alone_) alone_ = cdc::object_id(chunk_->size, std::span(&chunk_->digest, 1));
    return *alone_;
  }

 private:
  const cdc::Chunk* chunk_;
  ChunkKey key_;
  std::optional<cdc::ObjectId> alone_;  // hashed when it is asked for
};

struct Index::Reader {
  static Result<std::unique_ptr<Reader>> open(const std::string& path);
  // Adds places of the chunk.
  Status find_chunk(Wanted& wanted, const std::string& trust_domain, DedupScope scope,
                    std::vector<ChunkPlace>& places) IMSY_REQUIRES(mu);
  Status read_standing(const cdc::ObjectId& object, std::int64_t run, Standing& standing)
      IMSY_REQUIRES(mu);
  // One transaction for many look-ups of chunks, which are hints: it saves most of the cost of
  // each. Whoever needs to see the latest, and who writes, ends it.
  Status hold() IMSY_REQUIRES(mu);
  void release() IMSY_REQUIRES(mu);

  Mutex mu;
  bool held IMSY_GUARDED_BY(mu) = false;
  // Used with `mu` held.
  Database database;
  Statement find;        // key, trust domain, any domain -> object id, offset
  Statement find_alone;  // id, trust domain, any domain -> 1 if the object is there
  Statement standing;    // id -> state, run, trust domain, one of the others: a row for each
  Statement image;       // manifest -> resident, wanted, its objects, their bytes
  Statement owners;      // object id -> images, and those of them that want it
};

}  // namespace imsy::cas
