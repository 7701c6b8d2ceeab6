#include "converter/tar_image.h"

#include <string>
#include <vector>

namespace imsy::converter {
namespace {

using cdc::Inode;
using cdc::NodeType;
using oci::tar::Header;
using oci::tar::Type;

Type tar_type(NodeType type) {
  switch (type) {
    case NodeType::kDirectory: return Type::kDirectory;
    case NodeType::kRegular: return Type::kRegular;
    case NodeType::kSymlink: return Type::kSymlink;
    case NodeType::kCharDevice: return Type::kCharDevice;
    case NodeType::kBlockDevice: return Type::kBlockDevice;
    case NodeType::kFifo: return Type::kFifo;
  }
  return Type::kRegular;
}

Header header_of(const cdc::Tree& tree, const Inode& inode, std::string name) {
  Header header;
  header.name = std::move(name);
  header.type = tar_type(inode.type);
  header.mode = inode.mode;
  header.uid = inode.uid;
  header.gid = inode.gid;
  header.mtime_s = inode.mtime_s;
  header.mtime_ns = inode.mtime_ns;
  for (const auto& xattr : tree.xattrs(inode)) header.xattrs.emplace(xattr.name, xattr.value);
  if (inode.type == NodeType::kRegular) header.size = tree.object_size(inode.value);
  if (inode.type == NodeType::kSymlink) header.link = tree.symlink_target(inode);
  if (inode.type == NodeType::kCharDevice || inode.type == NodeType::kBlockDevice) {
    header.device_major = inode.value;
    header.device_minor = inode.count;
  }
  return header;
}

// The same inode under another name: type and target instead of content and xattrs.
Header link_to(Header header, std::string name, const std::string& first_name) {
  header.name = std::move(name);
  header.type = Type::kHardLink;
  header.link = first_name;
  header.size = 0;
  header.xattrs.clear();
  return header;
}

}  // namespace

Status for_each_tar_entry(const cdc::Tree& tree, const TarVisitor& visit) {
  struct Level {
    std::span<const cdc::Entry> rest;  // entries still to visit
    std::size_t prefix;                // length of `path` for this directory
  };
  std::vector<std::string> first_names(0);
  std::vector<std::uint32_t> first_name_of(tree.inode_count(), cdc::kNone);

  const Inode& root = tree.inode(0);
  IMSY_TRY(visit(header_of(tree, root, "./"), cdc::kNone));
  std::string path;
  std::vector<Level> stack{{tree.entries_of(root), 0}};
  while (!stack.empty()) {
    Level& level = stack.back();
    path.resize(level.prefix);
    if (level.rest.empty()) {
      stack.pop_back();
      continue;
    }
    const cdc::Entry& entry = level.rest.front();
    level.rest = level.rest.subspan(1);
    const Inode& inode = tree.inode(entry.inode);
    path += tree.name(entry);
    if (inode.type == NodeType::kDirectory) {
      path += '/';
      IMSY_TRY(visit(header_of(tree, inode, path), cdc::kNone));
      stack.push_back({tree.entries_of(inode), path.size()});
      continue;
    }
    std::uint32_t& first = first_name_of[entry.inode];
    if (first != cdc::kNone) {
      IMSY_TRY(visit(link_to(header_of(tree, inode, ""), path, first_names[first]), cdc::kNone));
      continue;
    }
    if (inode.link_count > 1) {
      first = static_cast<std::uint32_t>(first_names.size());
      first_names.push_back(path);
    }
    const bool has_content = inode.type == NodeType::kRegular;
    IMSY_TRY(visit(header_of(tree, inode, path), has_content ? inode.value : cdc::kNone));
  }
  return {};
}

}  // namespace imsy::converter
