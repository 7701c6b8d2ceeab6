// Store: the node's one copy of every file content, shared by all images.
//
// Promises
//   * Bytes that can be read through an Object have been checked against their chunk digest: either
//     since this process started, or before a syncfs that is on record. A chunk that fails is
//     dropped, counted, logged, and reported as missing, so that the caller fetches it again.
//   * A complete object is one regular file "objects/<2 hex>/<id>" that does not change as long as
//     it is there; a partial one is a sparse file "partial/<2 hex>/<id>". Completion is a rename.
//   * What was acknowledged (add_image, mark_resident) survives a power cut; everything else is a
//     cache that is found again by hashing.
//   * Objects belong to images (a set of owners). Removing an image drops its ownership only; what
//     nobody owns serves later images until it has to give way, those used longest ago first; then
//     images are shrunk.
//   * Content that needed a credential is given to those only who have brought it: an Object shows
//     a chunk to a trust domain when that domain has put all of the object, or this chunk while the
//     object was open, or when anybody may have it. Others fetch it once more; the disk is shared.
// Threads: all methods from any thread. None uses the network; all may wait for the disk.
// On disk: docs/format/store.md. No other code may read or write that layout.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "cas/check.h"
#include "cdc/manifest.h"
#include "common/io.h"
#include "common/result.h"

namespace imsy::cas {

// Whether content that needed a credential is kept to those who have fetched it.
enum class DedupScope {
  kCredential,
  kNode,  // no: all of the node share everything
};

struct StoreOptions {
  DedupScope dedup_scope = DedupScope::kCredential;
  // Content gives way when the store has more than so many bytes (0: no limit), or when less than
  // so many percent of its file system, bytes or files, are free (0 to 90). Nothing is put while
  // less than a quarter of that floor is free, so that others can still write: databases, for one.
  std::uint64_t quota_bytes = 0;
  unsigned free_floor_percent = 0;
  // Whether they are kept from now on. Else they are only remembered, for who keeps them later.
  bool keep_limits = true;
  // No lock, no changes: everything but stats() and load_image() is refused.
  bool read_only = false;
};

struct StoreStats {
  std::uint64_t objects = 0;  // complete
  std::uint64_t object_bytes = 0;
  std::uint64_t unowned_objects = 0;  // complete, no image owns them
  std::uint64_t unowned_bytes = 0;
  std::uint64_t partial_objects = 0;
  std::uint64_t partial_bytes = 0;  // allocated on disk
  std::uint64_t trash_objects = 0;
  std::uint64_t trash_bytes = 0;
  std::uint64_t chunks = 0;  // in the index
  // The limits of the process that opened it last.
  std::uint64_t quota_bytes = 0;
  unsigned free_floor_percent = 0;
  std::uint64_t disk_bytes = 0;  // of the file system
  std::uint64_t free_bytes = 0;
  struct Domain {  // the complete objects that were brought for one trust domain alone
    std::string name;
    std::uint64_t objects = 0;
    std::uint64_t bytes = 0;
  };
  std::vector<Domain> domains;
  struct Image {
    Digest manifest;
    std::uint64_t objects = 0;
    std::uint64_t bytes = 0;  // logical size of its objects
    bool resident = false;
    bool shrunk = false;
    bool pinned = false;
  };
  std::vector<Image> images;
};

// What was deleted.
struct Collected {
  std::uint64_t objects = 0;
  std::uint64_t bytes = 0;  // their sizes; of incomplete ones what they had on the disk
};

// One file content in the store, open, as one trust domain sees it. All who read it share one file;
// the last one closes it. Must not outlive the store. Thread-safe.
class Object {
 public:
  virtual ~Object() = default;
  virtual const cdc::ObjectId& id() const = 0;
  // True when all chunks are present, verified, and may be seen: any range may then be read. A read
  // that fails may make it false again.
  virtual bool complete() const = 0;
  // Whether chunk `index` of this object may be read. May hash the chunk from disk when it is not
  // known yet (bytes that an earlier run left); never uses the network.
  virtual bool has_chunk(std::uint32_t index) = 0;
  // Bytes at `offset`, which lie in chunks that has_chunk() said yes to. kCorrupt or an I/O error
  // when the disk fails: the chunks are then missing, and the caller fetches them.
  virtual Status read(std::uint64_t offset, std::span<std::byte> buffer) = 0;
  // The descriptor to read from directly (splice), valid as long as this Object; -1 while there is
  // no file (nothing was put yet, or the object is empty).
  virtual int fd() const = 0;
};

class Store {
 public:
  // Opens or creates the store at `root` (made with mode 0700 in a parent that exists; wrong owner
  // or mode, or a symlink in its place, is kFailedPrecondition, as is a store of a newer version)
  // and locks it. kUnavailable: another process has it; its pid is in the message. A broken index
  // is rebuilt from the files, with one log line.
  static Result<std::unique_ptr<Store>> open(const std::filesystem::path& root,
                                             const StoreOptions& options = {});
  virtual ~Store() = default;

  // --- images ---
  // Remembers an image durably (its manifest's bytes, its anchor's text) and makes it the owner of
  // its objects. `trust_domain` is "" for content that anybody may fetch, else a name (not "?") for
  // those who may. Repeating it is harmless; the first domain stays.
  virtual Status add_image(const std::shared_ptr<const cdc::Manifest>& manifest,
                           ByteSpan manifest_bytes, const std::string& anchor_text,
                           const std::string& trust_domain) = 0;
  // The manifest of a remembered image, read from disk, checked and validated anew. kNotFound.
  virtual Result<std::shared_ptr<const cdc::Manifest>> load_image(const Digest& manifest) = 0;
  // All that are remembered, in no order. Cheap.
  virtual Result<std::vector<Digest>> images() = 0;
  // Drops the image's record and its ownership, durably. Its objects stay. Absent: no error.
  virtual Status remove_image(const Digest& manifest) = 0;
  // Syncs the file system and then remembers that every object of the image is complete. The
  // caller has seen complete() of each. kFailedPrecondition when one is not, or when the image was
  // not added. After a failed sync nothing is acknowledged until the store is opened anew: the
  // kernel reports lost writes once.
  virtual Status mark_resident(const cdc::Manifest& manifest) = 0;
  virtual Result<bool> is_resident(const Digest& manifest) = 0;
  // Under pressure a resident image is shrunk: those of its objects give way that only shrunk
  // images own, and are fetched again when they are read. Then it is not to be filled again before
  // somebody has use for it. An image that is not known is not shrunk.
  virtual Result<bool> is_shrunk(const Digest& manifest) = 0;
  // Somebody has: from now on, durably, it is not shrunk, and it is the last one to be. Where the
  // limits leave no room for all of it, a shrunk one stays so: it would only make others give way,
  // in turns. kFailedPrecondition: the image was not added.
  virtual Status use_image(const Digest& manifest) = 0;
  // An image is not shrunk from now on, durably, until that is taken back: the kernel reads its
  // objects without us. kFailedPrecondition: the image was not added.
  virtual Status pin(const Digest& manifest, bool pinned) = 0;

  // --- objects ---
  // The object, whole, partial or new (then nothing of it is there), for this trust domain: that of
  // the source that its bytes will be brought from. Takes its chunk list from the manifest. Cheap
  // when it is open already.
  virtual Result<std::shared_ptr<Object>> open_object(const cdc::Manifest& manifest,
                                                      std::uint32_t object,
                                                      const std::string& trust_domain) = 0;
  // Puts a chunk's bytes into the object, after checking them against the chunk's digest, always:
  // kCorrupt when they differ. The last missing chunk completes the object. kNoSpace and other
  // disk errors leave the object as it was. Present already: writes nothing, but who brings it may
  // see it from now on.
  virtual Status put_chunk(Object& object, std::uint32_t index, ByteSpan raw) = 0;
  // Whether there is room for so many more bytes: tries it, and leaves nothing behind. kNoSpace, or
  // whatever else keeps new files from being written.
  virtual Status try_room(std::uint64_t bytes) = 0;
  // The bytes of a chunk from any object in the store that holds it, verified; nullopt when there
  // is none. The trust domain decides whose objects may be used.
  virtual Result<std::optional<Bytes>> find_chunk(const cdc::Chunk& chunk,
                                                  const std::string& trust_domain) = 0;
  // For each chunk whether find_chunk() will probably have it. Made for all chunks of an image at
  // once: it sorts them and reads no object.
  virtual std::vector<bool> likely_chunks(std::span<const cdc::Chunk> chunks,
                                          const std::string& trust_domain) = 0;

  // Deletes objects that are not open, in the order of docs/format/store.md, until they are
  // `bytes`. A call that finds no room on the disk does so by itself, as far as needed.
  enum class Extent {
    kUnowned,   // those that no image owns
    kUnwanted,  // and those that only shrunk images own
    kShrink,    // and shrinks images
  };
  virtual Result<Collected> collect(
      Extent extent = Extent::kUnowned,
      std::uint64_t bytes = std::numeric_limits<std::uint64_t>::max()) = 0;
  // Objects that are open cannot give way. `close` closes those that are open only because they may
  // be read again; it is called when they should. From any thread, one call at a time, and none
  // after it was replaced; null: nobody has such objects.
  virtual void set_closer(std::function<void()> close) = 0;

  // Other limits from now on, as StoreOptions; `keep_limits` stays as it was.
  virtual Status set_limits(std::uint64_t quota_bytes, unsigned free_floor_percent) = 0;

  virtual Result<StoreStats> stats() = 0;
  // What keeps it from doing all its work now, one line each. Cheap, never waits.
  struct Problem {
    std::string what;      // and what to do about it
    bool lasting = false;  // until the store is opened anew
  };
  virtual std::vector<Problem> problems() const = 0;

  // Goes over manifests, objects, index and rights, and reports what does not fit together. With
  // `repair`, content that is bad is off the record afterwards, durably, so that it is fetched
  // again, and is missing for those who have it open. Takes hours when it reads the data of a large
  // store. kCancelled: stopped.
  virtual Result<CheckSummary> check(const CheckOptions& options, const CheckEvents& events,
                                     const std::stop_token& stop) = 0;
};

}  // namespace imsy::cas
