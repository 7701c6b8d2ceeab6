#include "cdc/tree_rules.h"

#include <algorithm>
#include <array>

namespace imsy::cdc {
namespace {

constexpr std::uint32_t kNobody = 0xffffffff;  // (uid_t)-1 means "no change" to chown(2)
constexpr std::uint32_t kSecond = 1'000'000'000;

Error wrong(const std::string& path, std::string_view what) {
  return Error(Errc::kInvalid, in_quotes(path) + ": " + std::string(what));
}

std::string join(const std::string& directory, std::string_view name) {
  return directory.empty() ? std::string(name) : directory + "/" + std::string(name);
}

// A path that leads to the inode; only for messages, so it may take its time.
std::string some_path(const Tree& tree, std::uint32_t inode) {
  for (std::uint32_t d = 0; d < tree.inode_count(); ++d) {
    if (tree.inode(d).type != NodeType::kDirectory) continue;
    for (const Entry& entry : tree.entries_of(tree.inode(d))) {
      if (entry.inode == inode) return join(tree.path_of(d), tree.name(entry));
    }
  }
  return "";
}

// What is wrong with the inode itself, or nothing.
std::string_view check_attributes(const Tree& tree, const Inode& inode) {
  if (inode.mode > 07777) return "the mode has bits beyond 07777";
  if (inode.uid == kNobody || inode.gid == kNobody) return "owner 4294967295 is no owner";
  if (inode.mtime_ns >= kSecond) return "the mtime has a second or more of nanoseconds";
  switch (inode.type) {
    case NodeType::kDirectory:
    case NodeType::kRegular:
    case NodeType::kFifo: return "";
    case NodeType::kSymlink: {
      const std::string_view target = tree.symlink_target(inode);
      if (target.empty() || target.size() > kTargetLimit ||
          target.find('\0') != std::string_view::npos) {
        return "a symlink's target must be 1 to 4095 bytes without NUL";
      }
      return "";
    }
    case NodeType::kCharDevice:
    case NodeType::kBlockDevice:
      if (inode.value >= kDeviceMajorLimit || inode.count >= kDeviceMinorLimit) {
        return "Linux has no such device numbers (12 bits major, 20 bits minor)";
      }
      if (inode.type == NodeType::kCharDevice && inode.value == 0 && inode.count == 0) {
        return "character device 0:0 is overlayfs' whiteout and cannot be part of an image";
      }
      return "";
  }
  return "the type is unknown";
}

// What is wrong with one inode's xattrs, or nothing.
std::string check_xattrs(std::span<const Xattr> xattrs) {
  std::size_t names = 0;
  std::size_t values = 0;
  for (std::size_t i = 0; i < xattrs.size(); ++i) {
    const Xattr& xattr = xattrs[i];
    if (!is_legal_xattr(xattr.name)) return "xattr " + in_quotes(xattr.name) + " is not allowed";
    if (i > 0 && xattrs[i - 1].name >= xattr.name) {
      return "xattr " + in_quotes(xattr.name) + " is not in order, or there twice";
    }
    names += xattr.name.size() + 1;
    values += xattr.value.size();
  }
  if (names > kXattrListLimit) return "the names of its xattrs exceed 64 KiB";
  if (values > kXattrValuesLimit) return "the values of its xattrs exceed 64 KiB";
  return "";
}

Status check_inodes(const Tree& tree) {
  std::vector<bool> checked;  // sets of xattrs; inodes share them
  for (std::uint32_t i = 0; i < tree.inode_count(); ++i) {
    const Inode& inode = tree.inode(i);
    if (const auto problem = check_attributes(tree, inode); !problem.empty()) {
      return wrong(some_path(tree, i), problem);
    }
    if (inode.xattrs == kNone) continue;
    if (inode.xattrs >= checked.size()) checked.resize(inode.xattrs + std::size_t{1});
    if (checked[inode.xattrs]) continue;
    checked[inode.xattrs] = true;
    if (const auto problem = check_xattrs(tree.xattrs(inode)); !problem.empty()) {
      return wrong(some_path(tree, i), problem);
    }
  }
  return {};
}

// Names and paths. Directories come before what is in them, so one pass knows how deep it is.
Status check_names(const Tree& tree) {
  struct Place {
    std::uint16_t depth = 0;   // names in the path
    std::uint16_t length = 0;  // of the path, bytes
  };
  std::vector<Place> places(tree.inode_count());
  for (std::uint32_t d = 0; d < tree.inode_count(); ++d) {
    if (tree.inode(d).type != NodeType::kDirectory) continue;
    std::string_view previous;
    for (const Entry& entry : tree.entries_of(tree.inode(d))) {
      const std::string_view name = tree.name(entry);
      const auto path = [&] { return join(tree.path_of(d), name); };
      if (!is_legal_name(name)) return wrong(path(), "illegal name " + in_quotes(name));
      if (name == previous) return wrong(path(), "the name is there twice");
      if (name < previous) return wrong(path(), "the name is not in order");
      previous = name;
      const std::size_t length = places[d].length + (d == 0 ? 0u : 1u) + name.size();
      const std::size_t depth = places[d].depth + 1u;
      if (length > kPathLimit) return wrong(path(), "the path is longer than 4095 bytes");
      if (depth > kDepthLimit) return wrong(path(), "the path has more than 1024 names");
      if (tree.inode(entry.inode).type == NodeType::kDirectory) {
        places[entry.inode] = {static_cast<std::uint16_t>(depth),
                               static_cast<std::uint16_t>(length)};
      }
    }
  }
  return {};
}

}  // namespace

bool is_legal_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameLimit && name != "." && name != ".." &&
         !name.starts_with(".wh.") && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

bool is_legal_xattr(std::string_view name) {
  if (name.size() > kXattrNameLimit || name.find('\0') != std::string_view::npos) return false;
  if (name.starts_with("user.overlay.") || name == "security.selinux") return false;
  constexpr std::array<std::string_view, 3> kNamespaces = {"user.", "security.", "system."};
  return std::any_of(kNamespaces.begin(), kNamespaces.end(), [&](std::string_view space) {
    return name.size() > space.size() && name.starts_with(space);
  });
}

Status check_tree(const Tree& tree) {
  IMSY_TRY(check_names(tree));
  return check_inodes(tree);
}

std::string in_quotes(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text = "\"";
  for (const char c : bytes) {
    const auto value = static_cast<unsigned char>(c);
    if (value >= 0x20 && value < 0x7f && c != '"' && c != '\\') {
      text.push_back(c);
    } else {
      text += "\\x";
      text.push_back(kDigits[value >> 4]);
      text.push_back(kDigits[value & 15]);
    }
  }
  return text + "\"";
}

}  // namespace imsy::cdc
