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
//     nobody owns serves later images until it has to give way, those used longest ago first.
//   * Content that needed a credential is given to those only who have brought it: an Object shows
//     a chunk to a trust domain when that domain has put all of the object, or this chunk while the
//     object was open, or when anybody may have it. Others fetch it once more; the disk is shared.
// Threads: all methods from any thread. None uses the network; all may wait for the disk.
// On disk: docs/format/store.md. No other code may read or write that layout.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
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
  // Content that no image owns gives way when the store has more than so many bytes (0: no limit),
  // or when less than so many percent of its file system, bytes or files, are free (0 to 90).
  std::uint64_t quota_bytes = 0;
  unsigned free_floor_percent = 0;
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
  std::uint64_t chunks = 0;         // in the index
  struct Image {
    Digest manifest;
    std::uint64_t objects = 0;
    std::uint64_t bytes = 0;  // logical size of its objects
    bool resident = false;
  };
  std::vector<Image> images;
};

// What was deleted.
struct Collected {
  std::uint64_t objects = 0;
  std::uint64_t bytes = 0;  // their sizes
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

  // Deletes all objects that no image owns and that are not open. A call that finds no room on the
  // disk does so by itself, as far as needed.
  virtual Result<Collected> collect() = 0;

  virtual Result<StoreStats> stats() = 0;

  // Goes over manifests, objects, index and rights, and reports what does not fit together. With
  // `repair`, content that is bad is off the record afterwards, durably, so that it is fetched
  // again, and is missing for those who have it open. Takes hours when it reads the data of a large
  // store. kCancelled: stopped.
  virtual Result<CheckSummary> check(const CheckOptions& options, const CheckEvents& events,
                                     const std::stop_token& stop) = 0;
};

}  // namespace imsy::cas
