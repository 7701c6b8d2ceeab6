// Index: what the store remembers beside its files (SQLite).
//
// It says where a chunk may lie (a hint: who uses it hashes what is read), which objects are
// complete and how far that is to be trusted, and which images own what (acknowledged: durable).
//
// Promises
//   * Hints and completions are queued and written in batches by one thread; look-ups see them at
//     once. A crash loses the newest of them, which costs hashing and nothing else.
//   * add_image, remove_image and mark_resident are on the disk when they return; so is distrust()
//     of an object that was on record.
//   * A fault of the database is logged once, marks the index so that the next start rebuilds it,
//     and turns hints off; promises then fail with kCorrupt.
// Threads: all methods from any thread; all may wait for the disk. docs/locks.md.
// On disk: docs/format/store.md.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "cas/layout.h"
#include "cas/sqlite.h"
#include "cas/store.h"
#include "cdc/manifest.h"
#include "common/mutex.h"

namespace imsy::cas {

// The trust domain of content whose origin is not known, or more than one: shared with nobody.
inline constexpr std::string_view kSharedWithNobody = "?";

// The trust domain of an object of which only the file is left.
inline std::string domain_of_file(bool is_public) {
  return is_public ? std::string() : std::string(kSharedWithNobody);
}

class Index {
 public:
  // How far an object that lies in objects/ is to be believed.
  enum class Trust {
    kIncomplete,  // not known as complete
    kUnverified,  // complete, but not hashed since this process started
    kVerified,    // hashed by this process, or synced and on record
  };
  // The begin of a chunk's digest, in the digests' order: enough for a hint.
  using ChunkKey = std::int64_t;
  static ChunkKey key_of(const Digest& digest);
  struct ObjectRow {
    cdc::ObjectId id;
    std::uint64_t size = 0;
    // The one for which all its bytes were fetched; none: nothing new was, and the row keeps what
    // it says. Two that differ make kSharedWithNobody.
    std::optional<std::string> trust_domain;
  };
  // What is on record of an object.
  struct Standing {
    Trust trust = Trust::kIncomplete;
    std::optional<std::string> trust_domain;  // as in ObjectRow
    std::vector<std::string> others;          // domains that have brought all of it, too
    std::chrono::seconds unused{0};           // since it was used last
  };
  struct ChunkPlace {
    cdc::ObjectId object;
    std::uint64_t offset = 0;  // bytes from the start of the object
  };
  struct ImageRow {
    Digest manifest;
    std::string anchor_text;
    std::string trust_domain;
  };
  struct Opened {
    std::unique_ptr<Index> index;
    bool clean = true;      // the last process closed it
    bool built = true;      // else it is new, or was left half made: the files have to be put in
    std::string set_aside;  // name of the broken one that it replaces
    std::string reason;     // why it is not built
  };

  // kFailedPrecondition: written by a newer version. A broken or older one is set aside and made
  // anew.
  static Result<Opened> open(const Layout& layout, DedupScope scope = DedupScope::kCredential);
  // Writes what is queued and notes that this was done.
  ~Index();
  Index(const Index&) = delete;
  Index& operator=(const Index&) = delete;

  // --- hints
  // The object is complete and was verified by this process.
  void add_complete(const ObjectRow& row);
  // Chunk `digest` lies at `offset` in `object`.
  void add_chunk(const Digest& digest, const ObjectRow& object, std::uint64_t offset);
  // One more trust domain has brought all of the object.
  void add_access(const ObjectRow& object, const std::string& trust_domain);
  void drop_chunk(const Digest& digest, const ChunkPlace& place);
  // Places where the chunk may lie, at most eight; the domain says whose objects count.
  std::vector<ChunkPlace> find_chunk(const cdc::Chunk& chunk, const std::string& trust_domain);
  // For each chunk whether find_chunk() has a place. Made for all chunks of an image at once.
  std::vector<bool> likely_chunks(std::span<const cdc::Chunk> chunks,
                                  const std::string& trust_domain);
  Standing standing_of(const cdc::ObjectId& object);
  // Whether the object is new with an image of this run, nothing of it was put since, and this was
  // not asked before: then it has no file. Saves the first who opens it from looking.
  bool take_new(const cdc::ObjectId& object);
  // The object is complete no more. A crash does not bring the record back, so that the caller may
  // touch its file.
  Status distrust(const cdc::ObjectId& object);
  // The object is about to lie in objects/ again. If a file of it was given up before, that is
  // durable afterwards: a crash must not bring back the record of the former file for this one.
  Status settle(const cdc::ObjectId& object);
  // Bytes of a second trust domain are about to be written to the object: on the disk, it is shared
  // with nobody but those who have brought all of it.
  Status set_mixed(const cdc::ObjectId& object);
  // Content of the object was used: it is given up later.
  void touch(const cdc::ObjectId& object);
  // Writes what is queued. kNoSpace and others: it stays queued.
  Status flush();
  // Nothing is found in it or written to it until the next start.
  bool is_broken() const { return broken_; }
  // The last attempt to write what is queued failed.
  bool write_failed() const { return write_failed_; }

  // --- images
  Status add_image(const ImageRow& image, const cdc::Manifest& manifest);
  Status remove_image(const Digest& manifest);
  // Makes the image the owner of its objects anew, and of nothing else. It is not resident then.
  Status own_again(const ImageRow& image, const cdc::Manifest& manifest);
  Result<bool> is_resident(const Digest& manifest);
  Result<bool> is_shrunk(const Digest& manifest);
  // The image is used now, and not shrunk. kFailedPrecondition: it is not known.
  Status use_image(const Digest& manifest);
  // All objects of a shrunk image; nullopt: it is not shrunk.
  Result<std::optional<Collected>> shrunk_size(const Digest& manifest);
  // A pinned image is not shrunk. kFailedPrecondition: it is not known.
  Status pin(const Digest& manifest, bool pinned);
  // Calls `sync` when every object of the image is complete and verified by this process or on
  // record, then puts all on record. kFailedPrecondition when one is not; the image must be known.
  Status mark_resident(const Digest& manifest, const std::function<Status()>& sync);
  Result<std::vector<ImageRow>> images();

  // --- giving up
  enum class Idle {
    kUnowned,   // no image owns them
    kUnwanted,  // shrunk images do, and no others
  };
  // Objects, complete or not, in the order in which they are to be given up; without the first
  // `skip`. Look-ups do not wait for it, nor for object_bytes().
  Result<std::vector<ObjectRow>> idle_objects(Idle which, std::size_t limit, std::size_t skip);
  // Shrinks, durably, that of the resident images that was used longest ago and is not pinned;
  // nullopt: there is none.
  Result<std::optional<Digest>> shrink_next();
  // Bytes of all complete objects.
  Result<std::uint64_t> object_bytes();
  Result<Collected> unowned();
  // Calls `remove_file` unless an image wants the object, which none can begin to meanwhile, and
  // forgets the object. False: it is wanted, or still in the index for want of room.
  Result<bool> remove_idle(const cdc::ObjectId& object, const std::function<Status()>& remove_file);
  // Hints of objects that are not known any more. Goes over all of them.
  Status drop_stale_chunks();
  // Owners and rights that refer to nothing.
  Status drop_dangling_rows();

  // --- after a crash
  // All that the files say is in the index: from now on, durably, it is built.
  Status finish_building();
  // Makes the rows agree with the files in objects/: those without a row are complete and not
  // verified, and public or nobody's; rows without a file lose that.
  // Of those whose id begins with the byte `first`, all of which are in `files`.
  Status adopt(unsigned first, const std::vector<Layout::ObjectFile>& files);

  // Whether an image that is not shrunk owns the object.
  bool is_wanted(const cdc::ObjectId& object);
  // Writes down under which limits the store is kept, for who reads it from outside.
  Status note_limits(const StoreOptions& limits);

  // Fills all but what only the files tell.
  Status stats(StoreStats& stats);
  // The same from the index of a store that is not ours.
  static Status stats(Database& database, StoreStats& stats);

 private:
  struct QueuedObject {
    ObjectRow row;
    bool complete = false;
    std::vector<std::string> others;  // as in Standing
  };
  struct Drop {
    ChunkKey key;
    ChunkPlace place;
  };
  struct Queue {
    std::unordered_map<cdc::ObjectId, QueuedObject> objects;
    using Chunks = std::unordered_multimap<ChunkKey, ChunkPlace>;
    Chunks chunks;  // in `objects`
    std::vector<Drop> drops;
    std::unordered_set<cdc::ObjectId> touched;
    std::size_t size() const {
      return objects.size() + chunks.size() + drops.size() + touched.size();
    }
    QueuedObject& at(const ObjectRow& object);
  };
  struct Writer;  // the connection that writes, and its statements
  struct Reader;  // the connection that looks up

  Index(const Layout& layout, DedupScope scope);
  static Status prepare_file(const Layout& layout, Opened& opened);
  Status connect(Opened& opened);
  void run();
  bool wait_for_work();
  template <typename Fill>
  void enqueue(Fill fill);
  QueuedObject& record(Queue& queue, const ObjectRow& row) IMSY_REQUIRES(queue_mu_);
  Status flush_locked() IMSY_REQUIRES(write_mu_);
  Status write_batch(const Queue& batch) IMSY_REQUIRES(write_mu_);
  // Runs `work` in a transaction that is on the disk when this returns.
  Status durably(const std::function<Status()>& work) IMSY_REQUIRES(write_mu_);
  Status settle_all() IMSY_REQUIRES(write_mu_);
  Status commit(Transaction& transaction) IMSY_REQUIRES(write_mu_);
  void release_readers();
  Status record_resident(const Digest& manifest) IMSY_REQUIRES(write_mu_);
  Status forget(const cdc::ObjectId& object, bool owned) IMSY_REQUIRES(write_mu_);
  Result<Collected> count_objects(const char* which);
  // Runs the statement for the image, in a transaction that is on the disk when this returns.
  Status change_image(const Digest& manifest, const char* sql, std::int64_t value);
  // Changes what is queued of the object, if anything is.
  void edit_queued(const cdc::ObjectId& object, const std::function<void(QueuedObject&)>& edit)
      IMSY_REQUIRES(write_mu_);
  bool may_use(const QueuedObject& object, const std::string& trust_domain) const;
  class Wanted;
  void find_queued(const Queue& queue, Wanted& wanted, const std::string& trust_domain,
                   std::vector<ChunkPlace>& places) const;
  void look_up(std::span<Wanted> wanted, const std::string& trust_domain, std::vector<bool>& likely,
               const cdc::Chunk* first);
  // The connection for this thread's look-ups.
  Reader& reader();
  // Looks at a result of the database: the first fault is logged and marks the index as broken.
  template <typename T>
  Result<T> watch(Result<T> result) {
    if (!result) note_fault(result.error());
    return result;
  }
  void note_fault(const Error& error);

  const Layout& layout_;
  const DedupScope scope_;
  std::int64_t run_ = 0;  // number of this process's run, since the index exists
  std::atomic<bool> broken_{false};
  std::atomic<bool> write_failed_{false};  // so that a full disk is logged once

  Mutex write_mu_;  // before queue_mu_; held while the disk is written
  std::unique_ptr<Writer> writer_ IMSY_GUARDED_BY(write_mu_);
  std::uint64_t distrusted_ IMSY_GUARDED_BY(write_mu_) = 0;  // how often
  // Objects given up since the log was synced last, which a crash may bring back.
  mutable Mutex given_up_mu_;
  std::unordered_set<cdc::ObjectId> given_up_ IMSY_GUARDED_BY(given_up_mu_);

  // Each with a mutex of its own, held while the disk is read; nothing is taken under it.
  std::array<std::unique_ptr<Reader>, 2> readers_;

  Mutex queue_mu_;
  CondVar queued_;
  Queue queue_ IMSY_GUARDED_BY(queue_mu_);
  // The batch that is being written, or null. Its content changes under both locks only, so that
  // one of them is enough to read it.
  std::shared_ptr<Queue> batch_ IMSY_GUARDED_BY(queue_mu_);
  std::unordered_set<cdc::ObjectId> new_ IMSY_GUARDED_BY(queue_mu_);  // as take_new()
  bool stopping_ IMSY_GUARDED_BY(queue_mu_) = false;
  std::thread thread_;
};

}  // namespace imsy::cas
