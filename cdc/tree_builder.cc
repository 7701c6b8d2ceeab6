#include <algorithm>
#include <cassert>
#include <limits>
#include <map>
#include <utility>

#include "cdc/manifest.h"
#include "cdc/tree_codec.h"
#include "cdc/tree_rules.h"

namespace imsy::cdc {

// One call of TreeBuilder::build().
class TreeBuild {
 public:
  TreeBuild(std::deque<TreeBuilder::Node>& nodes, const std::vector<std::uint64_t>& object_sizes)
      : nodes_(nodes),
        object_sizes_(object_sizes),
        inode_of_(nodes.size(), kNone),
        object_of_(object_sizes.size(), kNone) {}

  Result<Tree> run(std::vector<std::uint32_t>* object_order);

 private:
  using Attributes = TreeBuilder::Attributes;

  Status place(TreeBuilder::NodeId node);
  Status add_entries(std::uint32_t directory);
  Status add_text(std::string_view text, std::uint32_t& offset);
  Status fill(Inode& inode, Attributes& attributes);
  std::uint32_t xattr_set(std::vector<Xattr>& xattrs);
  // `what` about the entry that is being added.
  Error wrong(std::string_view what) const;

  std::deque<TreeBuilder::Node>& nodes_;
  const std::vector<std::uint64_t>& object_sizes_;
  Tree tree_;
  std::vector<TreeBuilder::NodeId> order_;  // node of each inode
  std::vector<std::uint32_t> inode_of_;     // of each node
  std::vector<std::uint32_t> object_of_;    // new number of each object
  std::vector<std::uint32_t> object_order_;
  std::map<std::string, std::uint32_t> xattr_sets_;
  std::uint32_t directory_ = 0;  // that is being worked on, and the name in it
  std::string name_;
};

Error TreeBuild::wrong(std::string_view what) const {
  std::string path = tree_.path_of(directory_);
  if (!path.empty()) path += '/';
  return Error(Errc::kInvalid, in_quotes(path + name_) + ": " + std::string(what));
}

// Appends to the texts of the tree, whose offsets have 32 bits.
Status TreeBuild::add_text(std::string_view text, std::uint32_t& offset) {
  if (text.size() > std::numeric_limits<std::uint32_t>::max() - tree_.texts_.size()) {
    return wrong("all names and link targets together exceed 4 GiB");
  }
  offset = static_cast<std::uint32_t>(tree_.texts_.size());
  tree_.texts_ += text;
  return {};
}

// The index of the set of these xattrs, which many inodes may share.
std::uint32_t TreeBuild::xattr_set(std::vector<Xattr>& xattrs) {
  std::sort(xattrs.begin(), xattrs.end(),
            [](const Xattr& a, const Xattr& b) { return a.name < b.name; });
  std::string key;
  for (const Xattr& xattr : xattrs) {
    key += std::to_string(xattr.name.size()) + "," + std::to_string(xattr.value.size()) + ",";
    key += xattr.name + xattr.value;
  }
  const auto number = static_cast<std::uint32_t>(xattr_sets_.size());
  const auto [found, is_new] = xattr_sets_.emplace(std::move(key), number);
  if (is_new) {
    tree_.xattrs_.insert(tree_.xattrs_.end(), xattrs.begin(), xattrs.end());
    tree_.xattr_first_.push_back(static_cast<std::uint32_t>(tree_.xattrs_.size()));
  }
  return found->second;
}

Status TreeBuild::fill(Inode& inode, Attributes& attributes) {
  inode.type = attributes.type;
  inode.mode = attributes.mode;
  inode.uid = attributes.uid;
  inode.gid = attributes.gid;
  inode.mtime_s = attributes.mtime_s;
  inode.mtime_ns = attributes.mtime_ns;
  if (!attributes.xattrs.empty()) inode.xattrs = xattr_set(attributes.xattrs);
  switch (attributes.type) {
    case NodeType::kDirectory:
    case NodeType::kFifo: return {};
    case NodeType::kCharDevice:
    case NodeType::kBlockDevice:
      inode.value = attributes.device_major;
      inode.count = attributes.device_minor;
      return {};
    case NodeType::kSymlink:
      inode.count = static_cast<std::uint32_t>(attributes.target.size());
      return add_text(attributes.target, inode.value);
    case NodeType::kRegular: {
      if (attributes.object >= object_sizes_.size()) return wrong("a file without an object");
      std::uint32_t& number = object_of_[attributes.object];
      if (number == kNone) {
        number = static_cast<std::uint32_t>(object_order_.size());
        object_order_.push_back(attributes.object);
        tree_.object_sizes_.push_back(object_sizes_[attributes.object]);
      }
      inode.value = number;
      return {};
    }
  }
  return wrong("the type is unknown");
}

// Gives the node the next inode.
Status TreeBuild::place(TreeBuilder::NodeId node) {
  inode_of_[node] = static_cast<std::uint32_t>(order_.size());
  order_.push_back(node);
  Inode inode;
  IMSY_TRY(fill(inode, nodes_[node].attributes));
  tree_.inodes_.push_back(inode);
  tree_.parents_.push_back(inode.type == NodeType::kDirectory ? directory_ : kNone);
  return {};
}

Status TreeBuild::add_entries(std::uint32_t directory) {
  directory_ = directory;
  auto& children = nodes_[order_[directory]].children;
  std::sort(children.begin(), children.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  tree_.inodes_[directory].value = tree_.entry_count();
  tree_.inodes_[directory].count = static_cast<std::uint32_t>(children.size());
  for (const auto& [name, node] : children) {
    name_ = name;
    // Checked here as well as by check_tree(), because an entry has no room for a longer one.
    if (!is_legal_name(name)) return wrong("illegal name");
    const bool is_new = inode_of_[node] == kNone;
    if (!is_new && nodes_[node].attributes.type == NodeType::kDirectory) {
      return wrong("a hard link to a directory");
    }
    if (is_new) IMSY_TRY(place(node));
    Entry entry;
    IMSY_TRY(add_text(name, entry.name_offset));
    entry.name_size = static_cast<std::uint16_t>(name.size());
    entry.inode = inode_of_[node];
    tree_.entries_.push_back(entry);
  }
  return {};
}

Result<Tree> TreeBuild::run(std::vector<std::uint32_t>* object_order) {
  if (nodes_[TreeBuilder::kRoot].attributes.type != NodeType::kDirectory) {
    return Error(Errc::kInvalid, "the root of the tree is no directory");
  }
  IMSY_TRY(place(TreeBuilder::kRoot));
  for (std::uint32_t i = 0; i < order_.size(); ++i) {
    const auto& node = nodes_[order_[i]];
    if (node.attributes.type == NodeType::kDirectory) {
      IMSY_TRY(add_entries(i));
    } else if (!node.children.empty()) {
      return Error(Errc::kInvalid, in_quotes(node.children.front().name) +
                                       ": stands in something that is no directory");
    }
  }
  if (object_order_.size() != object_sizes_.size()) {
    return Error(Errc::kInvalid, "the tree has objects that no file refers to");
  }
  IMSY_TRY(TreeCodec::finish(tree_));
  if (object_order != nullptr) *object_order = std::move(object_order_);
  return std::move(tree_);
}

TreeBuilder::TreeBuilder(Attributes root) {
  nodes_.push_back({std::move(root), {}});
}

std::uint32_t TreeBuilder::add_object(std::uint64_t size) {
  object_sizes_.push_back(size);
  return static_cast<std::uint32_t>(object_sizes_.size() - 1);
}

TreeBuilder::NodeId TreeBuilder::add(NodeId parent, std::string name, Attributes attributes) {
  const auto node = static_cast<NodeId>(nodes_.size());
  nodes_.push_back({std::move(attributes), {}});
  add_link(parent, std::move(name), node);
  return node;
}

void TreeBuilder::add_link(NodeId parent, std::string name, NodeId node) {
  assert(parent < nodes_.size() && node < nodes_.size());
  nodes_[parent].children.push_back({std::move(name), node});
}

Result<Tree> TreeBuilder::build(std::vector<std::uint32_t>* object_order) {
  return TreeBuild(nodes_, object_sizes_).run(object_order);
}

}  // namespace imsy::cdc
