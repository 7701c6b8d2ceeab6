// Manifest: the CDC manifest of one image: its tree, its objects' chunk lists, and where each chunk
// lies. The contract between converter and node.
//
// Promises
//   * A Manifest that exists has been validated as a whole: every index is in range, every name is
//     legal, the tree is a tree, chunks cover their objects, frames cover the blobs.
//   * The same value is written as the same bytes (for one zstd version).
// Sections, in this order: header (with the table: offset, sizes, SHA-256 of each section as
// stored), tree (what a mount needs: names, attributes, object sizes), objects (digests), chunks
// (lengths and digests of objects of more than one chunk), frames. The first two suffice to mount.
// Threads: immutable after construction; any thread.
// On the wire: docs/format/cdc-manifest.md. Limits: below.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cdc/anchor.h"
#include "cdc/chunker.h"
#include "cdc/object_id.h"
#include "common/bytes.h"
#include "common/result.h"

namespace imsy::cdc {

// --- the tree -----------------------------------------------------------------------------------

inline constexpr std::uint32_t kNone = 0xffffffff;

inline constexpr std::size_t kNameLimit = 255;            // bytes of one name
inline constexpr std::size_t kPathLimit = 4095;           // bytes of a path, without a leading '/'
inline constexpr std::size_t kDepthLimit = 1024;          // names in a path
inline constexpr std::size_t kTargetLimit = 4095;         // bytes of a symlink's target
inline constexpr std::size_t kXattrNameLimit = 255;       // bytes
inline constexpr std::size_t kXattrListLimit = 64 << 10;  // names of one inode, each with its NUL
inline constexpr std::size_t kXattrValuesLimit = 64 << 10;    // values of one inode together
inline constexpr std::uint32_t kDeviceMajorLimit = 1u << 12;  // what Linux can hold; below this
inline constexpr std::uint32_t kDeviceMinorLimit = 1u << 20;

// The numbers are those of the format.
enum class NodeType : std::uint8_t {
  kDirectory = 0,
  kRegular = 1,
  kSymlink = 2,
  kCharDevice = 3,
  kBlockDevice = 4,
  kFifo = 5,
};

// One inode. Index 0 is the root directory. Hard links are several entries with one inode.
struct Inode {
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t link_count = 1;  // entries that name it (directories: 2 + sub-directories)
  std::uint32_t xattrs = kNone;  // for Tree::xattrs()
  // Regular: index of the object. Directory: index of its first entry. Device: its major number.
  // Symlink: for Tree::symlink_target(). Fifo: 0.
  std::uint32_t value = 0;
  // Directory: number of entries. Device: its minor number. Symlink: length of its target. Others:
  // 0.
  std::uint32_t count = 0;
  std::uint16_t mode = 0;  // permission bits and setuid, setgid, sticky: 07777
  NodeType type = NodeType::kDirectory;
};

// One name in a directory. The entries of a directory are contiguous and sorted by name (bytes).
struct Entry {
  std::uint32_t name_offset = 0;  // for Tree::name()
  std::uint32_t inode = 0;
  std::uint16_t name_size = 0;
};

struct Xattr {
  std::string name;
  std::string value;
  bool operator==(const Xattr&) const = default;
};

// Whether an entry may be called `name`: 1 to 255 bytes without '/' and NUL, not "." or "..", and
// not beginning with ".wh." (a whiteout to whoever unpacks the data layer).
bool is_legal_name(std::string_view name);
// Whether images may carry the xattr: a name of 1 to 255 bytes without NUL in the namespaces user.,
// security. and system., but neither user.overlay.* (it would steer overlayfs on the node) nor
// security.selinux (the node's policy labels files).
bool is_legal_xattr(std::string_view name);

class Tree {
 public:
  std::uint32_t inode_count() const { return static_cast<std::uint32_t>(inodes_.size()); }
  const Inode& inode(std::uint32_t index) const { return inodes_[index]; }
  // All entries but the root, those of directory 0 first (breadth first).
  std::uint32_t entry_count() const { return static_cast<std::uint32_t>(entries_.size()); }
  const Entry& entry(std::uint32_t index) const { return entries_[index]; }
  std::string_view name(const Entry& entry) const {
    return std::string_view(texts_).substr(entry.name_offset, entry.name_size);
  }
  std::span<const Entry> entries_of(const Inode& directory) const {
    return std::span(entries_).subspan(directory.value, directory.count);
  }
  // The entry of `directory` called `name`, or null. Binary search.
  const Entry* find(const Inode& directory, std::string_view name) const;
  // The inode that `path` names, or null; no symlink is followed, and a leading '/' is allowed.
  const Inode* lookup(std::string_view path) const;
  std::string_view symlink_target(const Inode& symlink) const {
    return std::string_view(texts_).substr(symlink.value, symlink.count);
  }
  // Sorted by name.
  std::span<const Xattr> xattrs(const Inode& inode) const {
    if (inode.xattrs == kNone) return {};
    const std::uint32_t first = xattr_first_[inode.xattrs];
    return std::span(xattrs_).subspan(first, xattr_first_[inode.xattrs + 1] - first);
  }
  std::uint32_t object_count() const { return static_cast<std::uint32_t>(object_sizes_.size()); }
  std::uint64_t object_size(std::uint32_t object) const { return object_sizes_[object]; }
  // st_size of a node: content size, or length of the symlink's target; 0 otherwise.
  std::uint64_t size_of(const Inode& inode) const;
  // The directory that holds directory `index` (root: itself).
  std::uint32_t parent_of(std::uint32_t index) const { return parents_[index]; }
  // The path of directory `index` without a leading '/' (root: empty), bytes as they are. Walks up.
  std::string path_of(std::uint32_t index) const;

 private:
  friend class TreeBuild;
  friend class TreeCodec;
  std::vector<Inode> inodes_;
  std::vector<std::uint32_t> parents_;  // of directories; kNone for the rest
  std::vector<Entry> entries_;
  std::string texts_;  // names and targets, one after the other
  std::vector<Xattr> xattrs_;
  std::vector<std::uint32_t> xattr_first_ = {0};  // of each set, into xattrs_; and the end
  std::vector<std::uint64_t> object_sizes_;
};

// Builds a Tree from nodes in any order. Used by the converter and by tests.
// Threads: belongs to one thread.
class TreeBuilder {
 public:
  struct Attributes {
    NodeType type = NodeType::kDirectory;
    std::uint16_t mode = 0755;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t mtime_s = 0;
    std::uint32_t mtime_ns = 0;
    std::vector<Xattr> xattrs;  // sorted by name by the builder
    std::string target;         // symlink
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    std::uint32_t object = kNone;  // regular: index given by add_object
  };
  using NodeId = std::uint32_t;

  explicit TreeBuilder(Attributes root);
  // Declares an object of `size` bytes; objects are numbered from 0 in the order of this call.
  std::uint32_t add_object(std::uint64_t size);
  // A new node under `parent`, which must be a directory.
  NodeId add(NodeId parent, std::string name, Attributes attributes);
  // Another name for `node`, which must not be a directory.
  void add_link(NodeId parent, std::string name, NodeId node);
  static constexpr NodeId kRoot = 0;

  // kInvalid for an illegal or duplicate name, an attribute beyond the limits above, a child of
  // something that is no directory, a link to a directory; the message names the path. Inodes are
  // numbered breadth first, siblings by name; objects in the order in which inodes refer to them:
  // `object_order` (may be null) gives for each new number the old one. Objects nothing refers to
  // are an error. The same nodes added in another order give the same tree.
  Result<Tree> build(std::vector<std::uint32_t>* object_order);

 private:
  friend class TreeBuild;
  struct Name {
    std::string name;
    NodeId node;
  };
  struct Node {
    Attributes attributes;
    std::vector<Name> children;
  };
  std::deque<Node> nodes_;  // a vector would need twice the memory while it grows
  std::vector<std::uint64_t> object_sizes_;
};

// --- objects, chunks, frames --------------------------------------------------------------------

// Where an object's bytes lie: the data layers' tar streams, one after the other, form one raw
// address space; an object's bytes are contiguous in it.
struct Chunk {
  ChunkDigest digest;
  std::uint32_t size = 0;           // bytes
  std::uint32_t frame = 0;          // index of the frame that holds all of it
  std::uint64_t object_offset = 0;  // bytes from the start of the object
};

struct Frame {
  std::uint64_t raw_offset = 0;  // in the raw address space
  std::uint32_t raw_size = 0;
  std::uint32_t stored_size = 0;
  std::uint64_t stored_offset = 0;  // in its blob
  std::uint32_t layer = 0;          // index of the data layer
};

// The objects' part: chunk lists and locations.
class Objects {
 public:
  std::uint32_t count() const { return static_cast<std::uint32_t>(ids_.size()); }
  const ObjectId& id(std::uint32_t object) const { return ids_[object]; }
  // 0 for an empty object.
  std::uint64_t raw_offset(std::uint32_t object) const { return raw_offsets_[object]; }
  std::uint32_t first_chunk(std::uint32_t object) const { return first_chunks_[object]; }
  std::uint32_t chunk_count(std::uint32_t object) const {
    return first_chunks_[object + 1] - first_chunks_[object];
  }
  // Chunks of all objects, in object order.
  std::uint32_t total_chunks() const { return static_cast<std::uint32_t>(chunks_.size()); }
  const Chunk& chunk(std::uint32_t index) const { return chunks_[index]; }
  std::span<const Chunk> chunks_of(std::uint32_t object) const {
    return std::span(chunks_).subspan(first_chunk(object), chunk_count(object));
  }
  // The object that chunk `index` belongs to. Binary search.
  std::uint32_t object_of_chunk(std::uint32_t index) const;
  // The index (among all chunks) of the chunk of `object` that covers byte `offset` (< its size).
  // Binary search.
  std::uint32_t chunk_at(std::uint32_t object, std::uint64_t offset) const;

  // Frames of layer 0 first, in the order in which they lie in their blobs, without gaps.
  std::uint32_t frame_count() const { return static_cast<std::uint32_t>(frames_.size()); }
  const Frame& frame(std::uint32_t index) const { return frames_[index]; }
  // The frame that holds all of chunk `index`, and where the chunk begins in the frame's raw bytes.
  std::uint32_t frame_of_chunk(std::uint32_t index) const { return chunks_[index].frame; }
  std::uint32_t offset_in_frame(std::uint32_t chunk) const;
  // Chunk indexes that lie in frame `index`, in order of their place in it. What else the frame
  // holds (tar headers, padding, further copies of an object) belongs to no chunk.
  std::span<const std::uint32_t> chunks_in_frame(std::uint32_t index) const {
    return std::span(frame_chunks_)
        .subspan(frame_first_[index], frame_first_[index + 1] - frame_first_[index]);
  }

 private:
  friend class ObjectsCodec;
  std::vector<ObjectId> ids_;
  std::vector<std::uint64_t> raw_offsets_;
  std::vector<std::uint32_t> first_chunks_ = {0};  // of each object; and the end
  std::vector<Chunk> chunks_;
  std::vector<Frame> frames_;
  // Derived: the chunks in the order of their raw place, and where each frame's begin there.
  std::vector<std::uint32_t> frame_chunks_;
  std::vector<std::uint32_t> frame_first_ = {0};
};

// --- the whole ----------------------------------------------------------------------------------

struct ManifestLimits {
  std::uint64_t entries = 5'000'000;                   // names in the tree
  std::uint64_t chunks = 64'000'000;                   // also of frames
  std::uint64_t section_raw = std::uint64_t{4} << 30;  // one section's columns, decompressed
  std::uint64_t manifest_stored = std::uint64_t{2} << 30;
  // Sum of file sizes : sum of frames' raw sizes, for more than 1 GiB of files. At most 1 for what
  // imsy-convert makes; a tiny blob must not pretend to be an endless image.
  std::uint64_t logical_ratio = 10'000;
};

// What the header says; known as soon as the header's bytes were checked against the anchor.
struct ManifestHeader {
  struct Section {
    std::uint32_t kind = 0;
    bool mandatory = false;    // a reader that does not know the kind must refuse
    std::uint64_t offset = 0;  // from the start of the manifest
    std::uint64_t stored_size = 0;
    std::uint64_t raw_size = 0;  // of its columns, decompressed
    Digest digest;               // of the stored bytes
  };
  ChunkerParameters chunker;
  std::uint64_t content_size = 0;  // sum of the objects' sizes
  std::vector<Section> sections;
};

// Everything needed to write a manifest.
struct ManifestParts {
  ChunkerParameters chunker;
  const Tree* tree = nullptr;
  // Per object, in the tree's numbering.
  struct Object {
    std::uint64_t raw_offset = 0;  // of no meaning for an empty object
    std::vector<ChunkDigest> digests;
    std::vector<std::uint32_t> sizes;
  };
  std::vector<Object> objects;
  std::vector<Frame> frames;
};

class Manifest {
 public:
  // Bytes of a manifest (header and sections); `header_size` says where the header ends.
  struct Written {
    Bytes bytes;
    std::uint64_t header_size = 0;
    Digest digest;  // of the header
  };
  // kInvalid when the parts contradict each other or exceed the default limits.
  static Result<Written> write(const ManifestParts& parts);

  // The header, from bytes that begin with it (more may follow), checked against the anchor's
  // digest before it is parsed. Errors as for read().
  static Result<ManifestHeader> read_header(ByteSpan bytes, const Anchor& anchor,
                                            const ManifestLimits& limits = {});
  // The byte range of the manifest that a mount needs: header and tree: [0, returned).
  static std::uint64_t mount_size(const ManifestHeader& header);

  // The whole, from all its bytes, checked against the anchor and validated completely.
  // kCorrupt: a digest or structure is wrong. kInvalid: a version, section or limit we refuse.
  static Result<std::shared_ptr<const Manifest>> read(ByteSpan bytes, const Anchor& anchor,
                                                      const ManifestLimits& limits = {});

  // The name of the manifest: the SHA-256 of its header, as in the anchor.
  const Digest& digest() const { return digest_; }
  const ManifestHeader& header() const { return header_; }
  const Tree& tree() const { return tree_; }
  const Objects& objects() const { return objects_; }

 private:
  Manifest() = default;
  Digest digest_;
  ManifestHeader header_;
  Tree tree_;
  Objects objects_;
};

}  // namespace imsy::cdc
