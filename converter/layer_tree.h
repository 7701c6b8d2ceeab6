// LayerTree: the root filesystem that an image's layers make, built in memory and never on disk.
//
// Layers are applied bottom up, entry by entry, with containerd's semantics; where its two ways of
// unpacking disagree, or depend on the order of entries, docs/layer-semantics.md says what is done
// here. In short: whiteouts and opaque markers hide what lower layers made, wherever in their layer
// they stand; hard links see the tree below before its whiteouts; symlinked parents are followed
// inside the root; nothing ever leaves the root.
// Time is linear in the number of entries and path components: no entry walks a subtree twice. What
// the limits do not allow is refused before anything is kept of it.
// Threads: one.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cdc/manifest.h"
#include "common/result.h"
#include "oci/tar/tar.h"

namespace imsy::converter {

// All but `depth` and `symlink_hops` count what all layers have together, dropped entries too.
struct LayerLimits {
  std::uint64_t entries = 5'000'000;                  // and directories that they imply
  std::uint32_t depth = 1024;                         // directories above an entry
  std::uint32_t symlink_hops = 255;                   // while resolving one path
  std::uint64_t text_bytes = std::uint64_t{1} << 30;  // of names, targets, extended attributes
  std::uint64_t steps = 1'000'000'000;                // LayerTree::steps()
};

// What was strange but accepted; shown by the program and written to its report.
struct LayerWarnings {
  std::uint64_t duplicate_entries = 0;  // the last one of a layer counts
  std::uint64_t symlinked_parents = 0;  // followed inside the root
  std::uint64_t ignored_whiteouts = 0;  // ".wh..wh.*" other than the opaque marker
  std::uint64_t whiteout_devices = 0;   // character devices 0:0, taken as whiteouts
  std::uint64_t dropped_xattrs = 0;     // trusted.*, user.overlay.*, security.selinux
  std::uint64_t dropped_indexes = 0;    // what lazily pulled layers keep about themselves
};

class LayerTree {
 public:
  using InodeId = std::uint32_t;
  static constexpr InodeId kRoot = 0;

  // One name in a directory.
  struct Entry {
    InodeId inode = 0;
    std::uint32_t set_in = 0;      // the layer that made it or gave it its attributes
    std::uint32_t touched_in = 0;  // the last layer that has something in or below it
    bool implied = false;          // in `set_in` by the path of another entry, so far
  };
  using Children = std::map<std::string, Entry, std::less<>>;

  struct Directory {
    Children children;
    std::uint32_t purge_in = 0;        // this layer hides what lower layers put here
    std::uint32_t purged_in = 0;       // ... and that has been done
    std::int64_t implied_mtime_s = 0;  // of the entry that implied it in its last layer
    std::uint32_t implied_mtime_ns = 0;
  };

  struct Inode {
    cdc::NodeType type = cdc::NodeType::kDirectory;
    std::uint16_t mode = 0755;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t mtime_ns = 0;
    std::int64_t mtime_s = 0;
    std::uint32_t content = cdc::kNone;  // regular: number given by the caller
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    std::string target;  // symlink
    std::vector<cdc::Xattr> xattrs;
    std::unique_ptr<Directory> directory;
  };

  explicit LayerTree(const LayerLimits& limits = {});

  // Layers are numbered from 1 in the order of these calls.
  void begin_layer();
  // Reads the content of the entry at hand and gives its number.
  using ReadContent = std::function<Result<std::uint32_t>()>;
  // Applies one entry. `read_content` is called when a regular file is made, after all checks.
  // kInvalid, with the entry's name, for what the limits or the semantics refuse.
  Status apply(const oci::tar::Header& header, const ReadContent& read_content);
  // Carries out the layer's whiteouts.
  void end_layer();

  const Inode& inode(InodeId id) const { return inodes_[id]; }
  // The inode, which is empty afterwards: for who makes something else of the tree, piece by piece.
  Inode take(InodeId id) { return std::exchange(inodes_[id], {}); }
  std::size_t inode_count() const { return inodes_.size(); }
  // The work so far: components of paths looked up, and children visited for markers.
  std::uint64_t steps() const { return steps_; }
  const LayerWarnings& warnings() const { return warnings_; }

 private:
  struct Place {  // where a path ends
    InodeId parent = kRoot;
    std::string name;  // "" for the root itself
  };
  // What a hard link is to be another name of, and where it was found.
  struct LinkTarget {
    InodeId inode = kRoot;
    InodeId parent = kRoot;
    std::string_view name;
  };
  struct Walk;

  Status count_entry();
  Status count_text(const oci::tar::Header& header);
  Status apply_root(const oci::tar::Header& header);
  Status apply_whiteout(std::span<const std::string_view> parents, std::string_view name,
                        const oci::tar::Header& header);
  Status hide(InodeId parent, std::string_view name);
  Status apply_hard_link(InodeId parent, std::string_view name, const oci::tar::Header& header);
  Status apply_node(InodeId parent, std::string_view name, const oci::tar::Header& header,
                    const ReadContent& read_content);

  // The directory that `parents` names, following symlinks and making what is missing.
  Result<InodeId> make_parents(std::span<const std::string_view> parents,
                               const oci::tar::Header& implied_by);
  // The inode that `path` names in the tree as it was before this layer's whiteouts; the last
  // component is not followed.
  Result<LinkTarget> find_link_target(std::string_view path);
  Result<InodeId> step_into(Walk& walk, std::string_view name, const oci::tar::Header* implied_by);

  Status set_attributes(Inode& inode, const oci::tar::Header& header);
  Result<InodeId> new_implied_directory(const oci::tar::Header& implied_by);
  void replace(InodeId parent, std::string_view name, InodeId inode);
  void purge(InodeId directory);
  void reset_to_implied(Inode& directory);

  LayerLimits limits_;
  LayerWarnings warnings_;
  std::uint32_t layer_ = 0;
  std::uint64_t entries_ = 0;
  std::uint64_t text_bytes_ = 0;
  std::uint64_t steps_ = 0;
  std::deque<Inode> inodes_;  // by number; a vector would need twice the memory while it grows
  std::vector<std::pair<InodeId, std::string>> hidden_;  // directories to hide at the layer's end
  std::vector<InodeId> opaque_;
  // Files that this layer's whiteouts took away: hard links of this layer may still name them.
  std::map<std::pair<InodeId, std::string>, InodeId, std::less<>> ghosts_;
};

}  // namespace imsy::converter
