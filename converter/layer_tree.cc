#include "converter/layer_tree.h"

#include <algorithm>

#include "converter/posix_acl.h"

namespace imsy::converter {
namespace {

using cdc::NodeType;
using oci::tar::Header;
using oci::tar::Type;

constexpr std::string_view kWhiteoutPrefix = ".wh.";
constexpr std::string_view kWhiteoutMetaPrefix = ".wh..wh.";
constexpr std::string_view kOpaqueMarker = ".wh..wh..opq";

constexpr std::size_t kNameMax = 255;
constexpr std::size_t kPathMax = 4095;
constexpr std::size_t kXattrsMax = 64u << 10;

// A name for messages: control characters and bytes beyond ASCII are escaped, long names cut.
std::string in_quotes(std::string_view name) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "\"";
  for (const char c : name.substr(0, 200)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\') {
      text += c;
    } else {
      text += "\\x";
      text += kDigits[byte >> 4];
      text += kDigits[byte & 15];
    }
  }
  return text + (name.size() > 200 ? "...\"" : "\"");
}

Error refuse(const Header& header, const std::string& why) {
  return Error(Errc::kInvalid, "entry " + in_quotes(header.name) + ": " + why);
}
Error refuse(const Header& header, const Error& why) {
  return refuse(header, why.message());
}

Error beyond(const std::string& what, std::uint64_t limit) {
  return Error(Errc::kInvalid, what + " the limit of " + std::to_string(limit));
}

// The components of a path inside the root: no empty ones, no ".". Refuses ".." and long names.
Result<std::vector<std::string_view>> split(std::string_view path) {
  if (path.size() > kPathMax) return Error(Errc::kInvalid, "the path is longer than 4095 bytes");
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, end);
    path.remove_prefix(std::min(end + 1, path.size()));
    if (part.empty() || part == ".") continue;
    if (part == "..") return Error(Errc::kInvalid, "a path may not contain \"..\"");
    if (part.size() > kNameMax) {
      return Error(Errc::kInvalid, "a name in the path is longer than 255 bytes");
    }
    if (part.find('\0') != std::string_view::npos) {
      return Error(Errc::kInvalid, "the path contains a NUL byte");
    }
    parts.push_back(part);
  }
  return parts;
}

// Layers made for lazy pulling carry their index, and marks for it, as files in the root; they
// belong to the blob, not to the image.
bool is_lazy_index(std::string_view name) {
  return name == "stargz.index.json" || name == ".prefetch.landmark" ||
         name == ".no.prefetch.landmark";
}

// The first two would steer overlayfs, labels and signatures belong to the host's policy.
bool dropped_xattr(std::string_view name) {
  return name.starts_with("trusted.") || name.starts_with("user.overlay.") ||
         name == "security.selinux" || name == "security.ima";
}

// The kernel takes version 1, 2 and 3 of the structure, which have these sizes.
bool plausible_capability(std::string_view value) {
  return value.size() == 12 || value.size() == 20 || value.size() == 24;
}

Error no_such_device(const Header& header) {
  return refuse(header, "device " + std::to_string(header.device_major) + ":" +
                            std::to_string(header.device_minor) +
                            " does not exist in Linux, whose last one is 4095:1048575");
}

NodeType node_type(Type type) {
  switch (type) {
    case Type::kRegular:
    case Type::kHardLink: return NodeType::kRegular;
    case Type::kSymlink: return NodeType::kSymlink;
    case Type::kCharDevice: return NodeType::kCharDevice;
    case Type::kBlockDevice: return NodeType::kBlockDevice;
    case Type::kDirectory: return NodeType::kDirectory;
    case Type::kFifo: return NodeType::kFifo;
  }
  return NodeType::kRegular;
}

}  // namespace

// A position in the tree while a path is resolved.
struct LayerTree::Walk {
  struct Level {
    InodeId inode;
    bool hidden;  // what lower layers made here is hidden by this layer
  };
  std::vector<Level> stack;
  std::vector<std::string> pending;  // components still to go, the next one last
  std::uint32_t hops = 0;

  void push_path(std::string_view path) {
    std::vector<std::string> parts;
    while (!path.empty()) {
      const std::size_t end = std::min(path.find('/'), path.size());
      if (end > 0) parts.emplace_back(path.substr(0, end));
      path.remove_prefix(std::min(end + 1, path.size()));
    }
    pending.insert(pending.end(), parts.rbegin(), parts.rend());
  }
};

LayerTree::LayerTree(const LayerLimits& limits) : limits_(limits) {
  Inode root;
  root.directory = std::make_unique<Directory>();
  inodes_.push_back(std::move(root));
}

void LayerTree::begin_layer() {
  ++layer_;
}

Status LayerTree::count_entry() {
  if (++entries_ <= limits_.entries) return {};
  return beyond("the image has more entries and implied directories than", limits_.entries);
}

Status LayerTree::count_text(const Header& header) {
  text_bytes_ += header.name.size() + header.link.size();
  for (const auto& [name, value] : header.xattrs) text_bytes_ += name.size() + value.size();
  if (text_bytes_ <= limits_.text_bytes) return {};
  return beyond("names, link targets and extended attributes of the image have more bytes than",
                limits_.text_bytes);
}

Status LayerTree::apply(const Header& header, const ReadContent& read_content) {
  if (const Status counted = count_entry(); !counted) return refuse(header, counted.error());
  if (const Status counted = count_text(header); !counted) return refuse(header, counted.error());
  auto parts = split(header.name);
  if (!parts) return refuse(header, parts.error());
  if (parts->size() > limits_.depth) {
    return refuse(header, beyond("nested more deeply than", limits_.depth));
  }
  if (parts->empty()) return apply_root(header);

  const std::string_view name = parts->back();
  if (parts->size() == 1 && header.type == Type::kRegular && is_lazy_index(name)) {
    ++warnings_.dropped_indexes;
    return {};
  }
  const auto parents = std::span<const std::string_view>(*parts).first(parts->size() - 1);
  for (const std::string_view parent : parents) {
    if (!parent.starts_with(kWhiteoutPrefix)) continue;
    if (!parent.starts_with(kWhiteoutMetaPrefix)) return refuse(header, "it lies in a whiteout");
    ++warnings_.ignored_whiteouts;  // what old storage drivers kept beside their files
    return {};
  }
  if (name.starts_with(kWhiteoutPrefix)) return apply_whiteout(parents, name, header);

  IMSY_TRY_ASSIGN(const InodeId parent, make_parents(parents, header));
  if (header.type == Type::kCharDevice && header.device_major == 0 && header.device_minor == 0) {
    ++warnings_.whiteout_devices;  // overlayfs would hide the name all the same
    return hide(parent, name);
  }
  if (header.type == Type::kHardLink) return apply_hard_link(parent, name, header);
  return apply_node(parent, name, header, read_content);
}

Status LayerTree::apply_root(const Header& header) {
  if (header.type != Type::kDirectory) {
    return refuse(header, "the root of an image must be a directory");
  }
  return set_attributes(inodes_[kRoot], header);
}

Status LayerTree::apply_whiteout(std::span<const std::string_view> parents, std::string_view name,
                                 const Header& header) {
  const std::string_view hidden = name.substr(kWhiteoutPrefix.size());
  if (hidden.empty() || hidden == "." || hidden == "..") {
    return refuse(header, "a whiteout must name something");
  }
  IMSY_TRY_ASSIGN(const InodeId parent, make_parents(parents, header));
  if (name == kOpaqueMarker) {
    inodes_[parent].directory->purge_in = layer_;
    opaque_.push_back(parent);
    return {};
  }
  if (name.starts_with(kWhiteoutMetaPrefix)) {
    ++warnings_.ignored_whiteouts;
    return {};
  }
  return hide(parent, hidden);
}

// Files go at once and leave a ghost for hard links. Directories go at the layer's end, when it is
// known what this layer puts into them; until then what is below is hidden from new paths.
Status LayerTree::hide(InodeId parent, std::string_view name) {
  auto& children = inodes_[parent].directory->children;
  const auto found = children.find(name);
  if (found == children.end()) return {};
  Inode& inode = inodes_[found->second.inode];
  if (inode.type == NodeType::kDirectory) {
    inode.directory->purge_in = layer_;
    hidden_.emplace_back(parent, std::string(name));
  } else if (found->second.set_in < layer_) {
    ghosts_.emplace(std::pair(parent, std::string(name)), found->second.inode);
    children.erase(found);
  }
  return {};
}

Status LayerTree::apply_hard_link(InodeId parent, std::string_view name, const Header& header) {
  auto target = find_link_target(header.link);
  if (!target) {
    return refuse(header,
                  "hard link to " + in_quotes(header.link) + ": " + target.error().message());
  }
  Inode& inode = inodes_[target->inode];
  if (inode.type == NodeType::kDirectory) {
    return refuse(header, "hard link to " + in_quotes(header.link) + ", which is a directory");
  }
  if (inodes_[parent].directory->children.contains(name) && target->parent == parent &&
      target->name == name) {
    return refuse(header, "hard link to " + in_quotes(header.link) + ", which is itself");
  }
  IMSY_TRY(set_attributes(inode, header));
  replace(parent, name, target->inode);
  return {};
}

Status LayerTree::apply_node(InodeId parent, std::string_view name, const Header& header,
                             const ReadContent& read_content) {
  auto& children = inodes_[parent].directory->children;
  const auto there = children.find(name);
  if (header.type == Type::kDirectory && there != children.end() &&
      inodes_[there->second.inode].type == NodeType::kDirectory) {
    Entry& entry = there->second;
    if (entry.set_in == layer_ && !entry.implied) ++warnings_.duplicate_entries;
    entry = Entry{entry.inode, layer_, layer_};
    return set_attributes(inodes_[entry.inode], header);
  }
  Inode inode;
  inode.type = node_type(header.type);
  if (header.device_major >= cdc::kDeviceMajorLimit ||
      header.device_minor >= cdc::kDeviceMinorLimit) {
    return no_such_device(header);
  }
  inode.device_major = header.device_major;
  inode.device_minor = header.device_minor;
  if (inode.type == NodeType::kSymlink) {
    if (header.link.empty() || header.link.size() > kPathMax ||
        header.link.find('\0') != std::string::npos) {
      return refuse(header, "a symlink's target must have 1 to 4095 bytes and no NUL");
    }
    inode.target = header.link;
  }
  if (inode.type == NodeType::kDirectory) inode.directory = std::make_unique<Directory>();
  IMSY_TRY(set_attributes(inode, header));
  if (inode.type == NodeType::kRegular) {
    IMSY_TRY_ASSIGN(inode.content, read_content());
  }
  inodes_.push_back(std::move(inode));
  replace(parent, name, static_cast<InodeId>(inodes_.size() - 1));
  return {};
}

Status LayerTree::set_attributes(Inode& inode, const Header& header) {
  // A hard link to a symlink shares its inode, and a symlink has no mode of its own.
  if (inode.type == NodeType::kSymlink) {
    inode.mode = 0777;
  } else {
    inode.mode = static_cast<std::uint16_t>(header.mode & 07777);
  }
  inode.uid = header.uid;
  inode.gid = header.gid;
  inode.mtime_s = header.mtime_s;
  inode.mtime_ns = header.mtime_ns;
  // A link's header adds to what the inode has, as setting them one by one does; any other entry
  // starts from nothing.
  if (header.type != Type::kHardLink) inode.xattrs.clear();
  for (const auto& [name, value] : header.xattrs) {
    if (dropped_xattr(name)) {
      ++warnings_.dropped_xattrs;
      continue;
    }
    if (name.size() > kNameMax || value.size() > kXattrsMax) {
      return refuse(header, "extended attribute " + in_quotes(name) + " is too large");
    }
    if (!cdc::is_legal_xattr(name)) {
      return refuse(header, "extended attribute " + in_quotes(name) +
                                " is not in user.*, security.* or system.*, and no image may "
                                "carry others; remove it");
    }
    if (name == "security.capability" && !plausible_capability(value)) {
      return refuse(header, "security.capability has a size that no kernel accepts");
    }
    if (!is_settable_acl(name, value, inode.type == NodeType::kDirectory)) {
      return refuse(header, "extended attribute " + name + " holds no ACL that a kernel accepts");
    }
    const auto same =
        std::find_if(inode.xattrs.begin(), inode.xattrs.end(),
                     [&wanted = name](const cdc::Xattr& x) { return x.name == wanted; });
    if (same != inode.xattrs.end()) {
      same->value = value;
    } else {
      inode.xattrs.push_back({name, value});
    }
  }
  std::size_t total = 0;
  for (const auto& xattr : inode.xattrs) total += xattr.name.size() + 1 + xattr.value.size();
  if (total > kXattrsMax) return refuse(header, "more than 64 KiB of extended attributes");
  return {};
}

Result<LayerTree::InodeId> LayerTree::new_implied_directory(const Header& implied_by) {
  IMSY_TRY(count_entry());
  Inode inode;
  inode.directory = std::make_unique<Directory>();
  inode.directory->implied_mtime_s = implied_by.mtime_s;
  inode.directory->implied_mtime_ns = implied_by.mtime_ns;
  reset_to_implied(inode);
  inodes_.push_back(std::move(inode));
  return static_cast<InodeId>(inodes_.size() - 1);
}

void LayerTree::replace(InodeId parent, std::string_view name, InodeId inode) {
  auto& children = inodes_[parent].directory->children;
  const auto [place, inserted] = children.try_emplace(std::string(name));
  if (!inserted && place->second.set_in == layer_) ++warnings_.duplicate_entries;
  place->second = Entry{inode, layer_, layer_};
}

Result<LayerTree::InodeId> LayerTree::make_parents(std::span<const std::string_view> parents,
                                                   const Header& implied_by) {
  Walk walk;
  walk.stack.push_back({kRoot, inodes_[kRoot].directory->purge_in == layer_});
  for (auto part = parents.rbegin(); part != parents.rend(); ++part) {
    walk.pending.emplace_back(*part);
  }
  while (!walk.pending.empty()) {
    const std::string name = std::move(walk.pending.back());
    walk.pending.pop_back();
    auto stepped = step_into(walk, name, &implied_by);
    if (!stepped) return refuse(implied_by, stepped.error());
  }
  return walk.stack.back().inode;
}

Result<LayerTree::LinkTarget> LayerTree::find_link_target(std::string_view path) {
  IMSY_TRY_ASSIGN(const auto parts, split(path));
  if (parts.empty()) return Error(Errc::kInvalid, "it is the root directory");
  Walk walk;
  walk.stack.push_back({kRoot, false});
  for (std::size_t i = parts.size() - 1; i-- > 0;) walk.pending.emplace_back(parts[i]);
  while (!walk.pending.empty()) {
    const std::string name = std::move(walk.pending.back());
    walk.pending.pop_back();
    IMSY_TRY(step_into(walk, name, nullptr));
  }
  const InodeId parent = walk.stack.back().inode;
  const auto& children = inodes_[parent].directory->children;
  if (const auto found = children.find(parts.back()); found != children.end()) {
    return LinkTarget{found->second.inode, parent, parts.back()};
  }
  if (const auto ghost = ghosts_.find(std::pair(parent, std::string(parts.back())));
      ghost != ghosts_.end()) {
    return LinkTarget{ghost->second, parent, parts.back()};
  }
  return Error(Errc::kNotFound, "there is no such file before this entry");
}

// One component further. With `implied_by`, missing directories are made, and what this layer hides
// is not seen; without, nothing changes.
Result<LayerTree::InodeId> LayerTree::step_into(Walk& walk, std::string_view name,
                                                const Header* implied_by) {
  if (++steps_ > limits_.steps) {
    return beyond("the paths of the image take more steps to resolve than", limits_.steps);
  }
  const auto [current, hidden] = walk.stack.back();
  if (name == ".") return current;
  if (name == "..") {
    if (walk.stack.size() > 1) walk.stack.pop_back();
    return walk.stack.back().inode;
  }
  if (walk.stack.size() > limits_.depth) return beyond("nested more deeply than", limits_.depth);
  if (name.size() > kNameMax) return Error(Errc::kInvalid, "a symlink leads to an overlong name");

  auto& children = inodes_[current].directory->children;
  auto found = children.find(name);
  const bool unseen = implied_by != nullptr && hidden && found != children.end() &&
                      found->second.touched_in < layer_ &&
                      inodes_[found->second.inode].type != NodeType::kDirectory;
  if (found == children.end() || unseen) {
    if (implied_by == nullptr) return Error(Errc::kNotFound, "there is no such directory");
    if (name.starts_with(kWhiteoutPrefix)) {  // it would be one in the layer that is written
      return Error(Errc::kInvalid,
                   "a symlink in its path leads into a whiteout, " + in_quotes(name));
    }
    IMSY_TRY_ASSIGN(const InodeId made, new_implied_directory(*implied_by));
    inodes_[current].directory->children.insert_or_assign(std::string(name),
                                                          Entry{made, layer_, layer_, true});
    walk.stack.push_back({made, hidden});
    return made;
  }
  const InodeId next = found->second.inode;
  Inode& inode = inodes_[next];
  if (inode.type == NodeType::kSymlink) {
    if (++walk.hops > limits_.symlink_hops) {
      return beyond("more symbolic links in the path (ELOOP) than", limits_.symlink_hops);
    }
    if (implied_by != nullptr) ++warnings_.symlinked_parents;
    if (inode.target.starts_with('/')) walk.stack.resize(1);
    walk.push_path(inode.target);
    return current;
  }
  if (inode.type != NodeType::kDirectory) {
    return Error(Errc::kInvalid, in_quotes(name) + " in its path is not a directory");
  }
  if (implied_by != nullptr && found->second.touched_in < layer_) {
    found->second.touched_in = layer_;
    inode.directory->implied_mtime_s = implied_by->mtime_s;
    inode.directory->implied_mtime_ns = implied_by->mtime_ns;
  }
  walk.stack.push_back({next, hidden || inode.directory->purge_in == layer_});
  return next;
}

void LayerTree::end_layer() {
  for (const auto& [parent, name] : hidden_) {
    auto& children = inodes_[parent].directory->children;
    const auto found = children.find(name);
    if (found == children.end()) continue;
    Inode& inode = inodes_[found->second.inode];
    if (inode.type != NodeType::kDirectory) continue;
    if (found->second.touched_in < layer_) {
      children.erase(found);
      continue;
    }
    if (found->second.set_in < layer_) reset_to_implied(inode);
    purge(found->second.inode);
  }
  for (const InodeId directory : opaque_) purge(directory);
  hidden_.clear();
  opaque_.clear();
  ghosts_.clear();
}

// Removes what lower layers made below `directory`. A directory that this layer only passed through
// becomes one that it implied. Each directory is done once per layer.
void LayerTree::purge(InodeId directory) {
  std::vector<InodeId> pending{directory};
  while (!pending.empty()) {
    Directory& current = *inodes_[pending.back()].directory;
    pending.pop_back();
    if (current.purged_in == layer_) continue;
    current.purged_in = layer_;
    steps_ += current.children.size();
    std::erase_if(current.children,
                  [&](const auto& child) { return child.second.touched_in < layer_; });
    for (auto& [name, entry] : current.children) {
      Inode& child = inodes_[entry.inode];
      if (child.type != NodeType::kDirectory) continue;
      if (entry.set_in < layer_) reset_to_implied(child);
      pending.push_back(entry.inode);
    }
  }
}

void LayerTree::reset_to_implied(Inode& inode) {
  inode.mode = 0755;
  inode.uid = 0;
  inode.gid = 0;
  inode.mtime_s = inode.directory->implied_mtime_s;
  inode.mtime_ns = inode.directory->implied_mtime_ns;
  inode.xattrs.clear();
}

}  // namespace imsy::converter
