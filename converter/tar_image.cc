#include "converter/tar_image.h"

#include <algorithm>
#include <iterator>
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

// Walks a tree in the order of paths, the root left out.
class PathWalk {
 public:
  explicit PathWalk(const cdc::Tree& tree) : tree_(tree) {
    levels_.push_back({tree.entries_of(tree.inode(0)), 0});
  }

  // The next entry, or null.
  const cdc::Entry* next() {
    while (!levels_.empty() && levels_.back().rest.empty()) levels_.pop_back();
    if (levels_.empty()) return nullptr;
    Level& level = levels_.back();
    path_.resize(level.prefix);
    const cdc::Entry& entry = level.rest.front();
    level.rest = level.rest.subspan(1);
    path_ += tree_.name(entry);
    const Inode& inode = tree_.inode(entry.inode);
    if (inode.type == NodeType::kDirectory) {
      path_ += '/';
      levels_.push_back({tree_.entries_of(inode), path_.size()});
    }
    return &entry;
  }
  // Of the entry that next() returned; a directory's ends with a slash.
  const std::string& path() const { return path_; }

 private:
  struct Level {
    std::span<const cdc::Entry> rest;  // entries still to visit
    std::size_t prefix;                // length of the directory's path
  };
  const cdc::Tree& tree_;
  std::string path_;
  std::vector<Level> levels_;
};

// The object of a file with content, or kNone.
std::uint32_t content_of(const cdc::Tree& tree, const Inode& inode) {
  if (inode.type != NodeType::kRegular) return cdc::kNone;
  return tree.object_size(inode.value) > 0 ? inode.value : cdc::kNone;
}

// For each object its place among all in the order of paths; kNone without content.
std::vector<std::uint32_t> ranks_of(const cdc::Tree& tree) {
  std::vector<std::uint32_t> ranks(tree.object_count(), cdc::kNone);
  std::uint32_t next = 0;
  PathWalk walk(tree);
  while (const cdc::Entry* entry = walk.next()) {
    const std::uint32_t object = content_of(tree, tree.inode(entry->inode));
    if (object != cdc::kNone && ranks[object] == cdc::kNone) ranks[object] = next++;
  }
  return ranks;
}

// Gives a tree's entries to a visitor.
class Emission {
 public:
  Emission(const cdc::Tree& tree, const TarVisitor& visit)
      : tree_(tree), visit_(visit), first_name_of_(tree.inode_count(), cdc::kNone) {}

  Status root() { return visit_(header_of(tree_, tree_.inode(0), "./"), cdc::kNone); }

  Status front(const std::vector<std::uint32_t>& objects) {
    if (objects.empty()) return {};
    visited_.resize(tree_.inode_count());
    for (const auto& [inode, path] : carriers(objects)) {
      IMSY_TRY(parents(path));
      visited_[inode] = true;
      IMSY_TRY(entry(inode, path));
    }
    return {};
  }

  // All that was not visited yet.
  Status rest() {
    PathWalk walk(tree_);
    while (const cdc::Entry* found = walk.next()) {
      const std::uint32_t inode = found->inode;
      if (!visited_.empty() && visited_[inode]) {
        visited_[inode] = false;  // its other names are still to come
        continue;
      }
      IMSY_TRY(entry(inode, walk.path()));
    }
    return {};
  }

 private:
  struct Carrier {
    std::uint32_t inode = cdc::kNone;
    std::string path;
  };

  // The first file in the order of paths with each of `objects`.
  std::vector<Carrier> carriers(const std::vector<std::uint32_t>& objects) const {
    std::vector<std::uint32_t> index(tree_.object_count(), cdc::kNone);
    for (std::uint32_t i = 0; i < objects.size(); ++i) index[objects[i]] = i;
    std::vector<Carrier> found(objects.size());
    PathWalk walk(tree_);
    while (const cdc::Entry* entry = walk.next()) {
      const std::uint32_t object = content_of(tree_, tree_.inode(entry->inode));
      if (object == cdc::kNone || index[object] == cdc::kNone) continue;
      found[index[object]] = {entry->inode, walk.path()};
      index[object] = cdc::kNone;
    }
    return found;
  }

  // The directories above `path`, as far as they were not visited.
  Status parents(const std::string& path) {
    const Inode* directory = &tree_.inode(0);
    std::size_t begin = 0;
    for (std::size_t slash = path.find('/'); slash != std::string::npos;
         begin = slash + 1, slash = path.find('/', begin)) {
      const auto name = std::string_view(path).substr(begin, slash - begin);
      const std::uint32_t inode = tree_.find(*directory, name)->inode;
      directory = &tree_.inode(inode);
      if (visited_[inode]) continue;
      visited_[inode] = true;
      IMSY_TRY(entry(inode, path.substr(0, slash + 1)));
    }
    return {};
  }

  Status entry(std::uint32_t index, const std::string& path) {
    const Inode& inode = tree_.inode(index);
    if (inode.type == NodeType::kDirectory) {
      return visit_(header_of(tree_, inode, path), cdc::kNone);
    }
    std::uint32_t& first = first_name_of_[index];
    if (first != cdc::kNone) {
      return visit_(link_to(header_of(tree_, inode, ""), path, first_names_[first]), cdc::kNone);
    }
    if (inode.link_count > 1) {
      first = static_cast<std::uint32_t>(first_names_.size());
      first_names_.push_back(path);
    }
    const bool has_content = inode.type == NodeType::kRegular;
    return visit_(header_of(tree_, inode, path), has_content ? inode.value : cdc::kNone);
  }

  const cdc::Tree& tree_;
  const TarVisitor& visit_;
  std::vector<bool> visited_;  // by inode: ahead of its turn, which is still to come
  std::vector<std::string> first_names_;
  std::vector<std::uint32_t> first_name_of_;  // by inode
};

}  // namespace

TarOrder TarOrder::with_front(const cdc::Tree& tree, std::span<const std::uint32_t> objects) {
  const auto ranks = ranks_of(tree);
  std::vector<std::uint32_t> sequence;
  std::vector<bool> taken(tree.object_count());
  for (const std::uint32_t object : objects) {
    if (ranks[object] == cdc::kNone || taken[object]) continue;
    taken[object] = true;
    sequence.push_back(object);
  }
  std::vector<std::uint32_t> others(tree.object_count(), cdc::kNone);  // by rank
  for (std::uint32_t object = 0; object < tree.object_count(); ++object) {
    if (ranks[object] != cdc::kNone && !taken[object]) others[ranks[object]] = object;
  }
  std::copy_if(others.begin(), others.end(), std::back_inserter(sequence),
               [](std::uint32_t object) { return object != cdc::kNone; });
  return of_sequence(std::move(sequence), ranks);
}

TarOrder TarOrder::of(const cdc::Manifest& manifest) {
  const auto ranks = ranks_of(manifest.tree());
  std::vector<std::uint32_t> sequence;
  for (std::uint32_t object = 0; object < ranks.size(); ++object) {
    if (ranks[object] != cdc::kNone) sequence.push_back(object);
  }
  const auto& objects = manifest.objects();
  std::sort(sequence.begin(), sequence.end(), [&](std::uint32_t a, std::uint32_t b) {
    return objects.raw_offset(a) < objects.raw_offset(b);
  });
  return of_sequence(std::move(sequence), ranks);
}

// What is left of the sequence when the longest end that is in the order of paths is cut off. So
// writer and reader find the same front in the same sequence.
TarOrder TarOrder::of_sequence(std::vector<std::uint32_t> objects,
                               const std::vector<std::uint32_t>& ranks) {
  std::size_t end = objects.size();
  while (end > 1 && ranks[objects[end - 2]] < ranks[objects[end - 1]]) --end;
  objects.resize(end > 0 ? end - 1 : 0);
  TarOrder order;
  order.front_ = std::move(objects);
  return order;
}

Status for_each_tar_entry(const cdc::Tree& tree, const TarOrder& order, const TarVisitor& visit) {
  Emission emission(tree, visit);
  IMSY_TRY(emission.root());
  IMSY_TRY(emission.front(order.front()));
  return emission.rest();
}

}  // namespace imsy::converter
