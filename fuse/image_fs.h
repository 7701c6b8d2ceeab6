// ImageFs: the lazy trees of all mounted images, as answers to filesystem questions.
//
// No libfuse here: fuse/ops.cc turns the kernel's requests into these calls. The node has one
// filesystem; its root directory has one directory per mounted image, named by the image's slot.
//
// Promises
//   * A node id is (slot << 32 | inode index + 1); slot 0 is the root directory, whose id is 1. An
//     id means the same file for ever: there is no inode table, no lookup count, no forget.
//   * Attributes, names and xattrs are answered from the manifest in memory, never from disk or
//     network. Contents come from the image's fetcher.
//   * No xattr of overlayfs is ever served: the kernel would follow it out of the image.
// Threads: all methods from any thread; none waits for the network.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cas/fetcher.h"
#include "common/result.h"

namespace imsy::fuse {

using NodeId = std::uint64_t;
using Slot = std::uint32_t;  // 1 .. kSlotMax
inline constexpr NodeId kRootId = 1;
// Two bits stay free at the top of a node id: overlayfs tells its layers apart with them.
inline constexpr Slot kSlotMax = (1u << 30) - 1;

constexpr NodeId node_id(Slot slot, std::uint32_t inode) {
  return (NodeId{slot} << 32) | (NodeId{inode} + 1);
}

struct DirectoryEntry {
  std::string name;
  NodeId node = 0;
  std::uint32_t type = 0;  // S_IFMT bits
  std::uint64_t next = 0;  // position behind this entry
};

// Sums over all mounted images, what the node shares counted once per image.
struct ImageFsTotals {
  std::uint64_t images = 0;
  std::uint64_t inodes = 0;
  std::uint64_t content_bytes = 0;
};

class ImageFs {
 public:
  using ReadDone = cas::Image::ReadDone;

  // Makes an image appear at /<slot>. kAlreadyExists: the slot is in use. kInvalid: no such slot.
  Status add(Slot slot, std::shared_ptr<cas::Image> image);
  // Takes it away; requests in progress finish. Ids of the slot then answer kNotFound.
  void remove(Slot slot);
  std::shared_ptr<cas::Image> image(Slot slot) const;  // null when there is none

  // kNotFound: no such node or name. kFailedPrecondition: a file where a directory is needed, or
  // the other way round.
  Result<struct stat> lookup(NodeId parent, std::string_view name) const;  // st_ino is the node id
  Result<struct stat> attributes(NodeId node) const;
  Result<std::string> read_link(NodeId node) const;
  // Entries from position `offset` on ("." and ".." first); at most `count`, none behind the last.
  // The position of an entry never changes, also not when images come and go.
  Result<std::vector<DirectoryEntry>> read_directory(NodeId node, std::uint64_t offset,
                                                     std::size_t count) const;
  // kNotFound when there is no such attribute.
  Result<std::string> get_xattr(NodeId node, std::string_view name) const;
  Result<std::vector<std::string>> list_xattrs(NodeId node) const;
  ImageFsTotals totals() const;

  // Content of a regular file, cut at its end. `done` runs once: before this returns when the bytes
  // are present, else later on another thread. The number is for cancel(); 0: done has run.
  // kNotFound, kFailedPrecondition: as above. Content that does not come, for whatever reason, is
  // an error that means EIO.
  std::uint64_t read(NodeId node, std::uint64_t offset, std::uint32_t length, ReadDone done);
  // The reader gave up. Reads of a slot that was removed since run to their end all the same.
  void cancel(NodeId node, std::uint64_t read);

  // "image=<digest> file=<path> object=<id>" for a log line, with unprintable bytes escaped. Looks
  // through the whole tree: for errors only.
  std::string describe(NodeId node) const;

 private:
  mutable std::shared_mutex mu_;  // docs/locks.md
  std::map<Slot, std::shared_ptr<cas::Image>> images_;
};

}  // namespace imsy::fuse
