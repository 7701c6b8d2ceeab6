#include "cdc/manifest.h"

#include <algorithm>

namespace imsy::cdc {

const Entry* Tree::find(const Inode& directory, std::string_view wanted) const {
  const auto entries = entries_of(directory);
  const auto found = std::lower_bound(
      entries.begin(), entries.end(), wanted,
      [this](const Entry& entry, std::string_view other) { return name(entry) < other; });
  return found != entries.end() && name(*found) == wanted ? &*found : nullptr;
}

const Inode* Tree::lookup(std::string_view path) const {
  const Inode* inode = &inodes_[0];
  if (path.starts_with('/')) path.remove_prefix(1);
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    if (inode->type != NodeType::kDirectory) return nullptr;
    const Entry* entry = find(*inode, path.substr(0, end));
    if (entry == nullptr) return nullptr;
    inode = &inodes_[entry->inode];
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return inode;
}

std::uint64_t Tree::size_of(const Inode& inode) const {
  if (inode.type == NodeType::kRegular) return object_size(inode.value);
  return inode.type == NodeType::kSymlink ? inode.count : 0;
}

std::string Tree::path_of(std::uint32_t index) const {
  std::string path;
  while (index != 0) {
    const std::uint32_t parent = parents_[index];
    const auto entries = entries_of(inodes_[parent]);
    const auto self = std::find_if(entries.begin(), entries.end(),
                                   [&](const Entry& entry) { return entry.inode == index; });
    path.insert(0, std::string(name(*self)) + (path.empty() ? "" : "/"));
    index = parent;
  }
  return path;
}

}  // namespace imsy::cdc
