// Layout: the names of the store's files, and the only code that opens, moves and removes them.
//
//   lock                        held by flock(2) while a process has the store; never deleted
//   index.db                    cas/index.h; set aside as index.db.broken-<n> when it is broken
//   objects/<2 hex>/<64 hex>    complete objects, mode 0444 (public) or 0400
//   partial/<2 hex>/<64 hex>    objects with missing chunks: sparse, of the final size, mode 0644
//                               (public) or 0600
//   manifests/<64 hex>          cas/image_file.h
//   trash/<64 hex>              objects that were given up
//
// Promises
//   * Everything is opened beneath the root's descriptor; no symlink is followed, planted ones
//     included. What stands at an object's name and is no regular file is removed and logged.
// Threads: all const methods from any thread. All may wait for the disk.
// On disk: docs/format/store.md.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "cdc/object_id.h"
#include "common/bytes.h"
#include "common/io.h"
#include "common/result.h"

namespace imsy::cas {

enum class Place { kObjects, kPartial };

// Mode of an object's file. All that is in a public one was fetched without a credential: that must
// be known without the index, too.
constexpr mode_t object_mode(Place place, bool is_public) {
  return (place == Place::kObjects ? 0400 : 0600) | (is_public ? 0044 : 0);
}
constexpr bool is_public(mode_t mode) {
  return (mode & 0004) != 0;
}

class Layout {
 public:
  // Makes the root (its parent must exist) and checks it: a directory, no symlink, ours, mode 0700,
  // in a parent that not everybody may write to (kFailedPrecondition). With `lock`, makes what is
  // missing inside and locks it: kUnavailable with the holder's pid when somebody else has it.
  static Result<Layout> open(const std::filesystem::path& root, bool lock);
  Layout(Layout&&) noexcept;
  ~Layout();

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path index_path() const { return root_ / "index.db"; }

  // --- objects
  // The regular file of `id`, opened with `access` (O_RDONLY or O_RDWR). kNotFound.
  Result<UniqueFd> open_object(Place place, const cdc::ObjectId& id, int access) const;
  // A new partial object: a hole of `size` bytes. Takes the place of what nobody knows of.
  Result<UniqueFd> create_partial(const cdc::ObjectId& id, std::uint64_t size,
                                  bool is_public) const;
  // A new partial object of no bytes, for somebody who writes all of it at once and then says whom
  // it is for. Likewise.
  Result<UniqueFd> create_empty(const cdc::ObjectId& id) const;
  // Moves the object to the other place, over what is there.
  Status move_object(const cdc::ObjectId& id, Place to) const;
  Status remove_object(Place place, const cdc::ObjectId& id) const;
  enum class Discard { kToTrash, kAtOnce };
  // Takes the object's file away, wherever it is. Without room for its name in the trash it goes at
  // once. Absent: no error. How many bytes that are: a complete object's size, or what a partial
  // one has on the disk.
  Result<std::uint64_t> discard_object(const cdc::ObjectId& id, Discard how) const;
  // Calls `visit` with the bytes on the disk of each.
  Status each_in_trash(const std::function<void(std::uint64_t)>& visit) const;
  Status empty_trash() const;
  // Whether a file of so many bytes can be written now; it has no name and is gone at once.
  Status try_room(std::uint64_t bytes) const;
  struct ObjectFile {
    cdc::ObjectId id;
    std::uint64_t size = 0;       // bytes
    std::uint64_t allocated = 0;  // bytes on disk
    bool is_public = false;
    mode_t mode = 0;  // with its type
    dev_t device = 0;
    ino_t inode = 0;
  };
  // What stands at the object's name, whatever it is. kNotFound.
  Result<ObjectFile> look_at(Place place, const cdc::ObjectId& id) const;
  // Every regular file with the name of an object, in no order.
  Status each_object(Place place, const std::function<void(const ObjectFile&)>& visit) const;
  // The same for one of the 256 folders, and with what is no regular file.
  static constexpr unsigned kFolders = 256;
  Status each_in_folder(Place place, unsigned folder,
                        const std::function<void(const ObjectFile&)>& visit) const;

  // --- manifests
  // Durable and atomic: afterwards the file holds `data`, also after a power cut.
  Status write_manifest(const Digest& manifest, ByteSpan data) const;
  Result<Bytes> read_manifest(const Digest& manifest, std::uint64_t limit) const;  // kNotFound
  Status remove_manifest(const Digest& manifest) const;  // durable; absent: no error
  // Names of all manifests. Temporary files that a crash left are removed.
  Result<std::vector<Digest>> manifests() const;

  // --- the whole
  struct FreeSpace {
    std::uint64_t bytes = 0;  // of the file system
    std::uint64_t free_bytes = 0;
    std::uint64_t files = 0;  // 0: it has no such limit
    std::uint64_t free_files = 0;
  };
  Result<FreeSpace> free_space() const;
  // Writes everything in the file system to the disk (syncfs).
  Status sync() const;
  // Makes new names in the root survive a power cut.
  Status sync_root() const;
  // Renames index.db to index.db.broken-<n>, of which five are kept, and removes its log; returns
  // the new name, "" when there was none.
  Result<std::string> set_index_aside() const;
  // A mark that makes the next start set the index aside.
  void mark_index_broken() const;
  bool index_marked_broken() const;

 private:
  Layout();
  Result<UniqueFd> open_beneath(const std::string& name, int flags, mode_t mode = 0) const;
  class Folders;  // descriptors of the objects' folders that are kept open
  struct Folder {
    int fd = -1;
    UniqueFd own;  // when it is not kept
  };
  Result<Folder> open_folder(Place place, const cdc::ObjectId& id, bool create) const;
  Status make_folder(const char* name) const;
  Status take_lock();

  std::filesystem::path root_;
  UniqueFd root_fd_;
  UniqueFd lock_;
  std::unique_ptr<Folders> folders_;
};

}  // namespace imsy::cas
