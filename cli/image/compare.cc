#include "cli/image/compare.h"

#include <fmt/format.h>

#include <array>
#include <span>
#include <string_view>

#include "common/log.h"

namespace imsy::cli::image {
namespace {

using cdc::Inode;
using cdc::NodeType;

std::string_view name_of(NodeType type) {
  constexpr std::array<std::string_view, 6> kNames = {"directory",        "regular file", "symlink",
                                                      "character device", "block device", "fifo"};
  return kNames[static_cast<std::size_t>(type)];
}

template <typename T>
std::string differs(std::string_view attribute, const T& left, const T& right) {
  return fmt::format("{}: {} and {}", attribute, left, right);
}

std::string owner(const Inode& inode) {
  return fmt::format("{}:{}", inode.uid, inode.gid);
}
std::string mtime(const Inode& inode) {
  return fmt::format("{}.{:09}", inode.mtime_s, inode.mtime_ns);
}
std::string device(const Inode& inode) {
  return fmt::format("{}:{}", inode.value, inode.count);
}

// The names of the extended attributes that are not the same on both sides.
std::string changed_xattrs(std::span<const cdc::Xattr> left, std::span<const cdc::Xattr> right) {
  std::string names;
  const auto add = [&](const cdc::Xattr& xattr) {
    names += (names.empty() ? "" : ", ") + log::printable(xattr.name);
  };
  while (!left.empty() || !right.empty()) {
    const bool take_left = right.empty() || (!left.empty() && left[0].name <= right[0].name);
    const bool take_right = left.empty() || (!right.empty() && right[0].name <= left[0].name);
    if (!take_left || !take_right || left[0].value != right[0].value) {
      add(take_left ? left[0] : right[0]);
    }
    if (take_left) left = left.subspan(1);
    if (take_right) right = right.subspan(1);
  }
  return names;
}

class Comparison {
 public:
  Comparison(const Content& left, const Content& right,
             const std::function<void(const Difference&)>& visit)
      : left_(left),
        right_(right),
        visit_(visit),
        right_of_(left.tree.inode_count(), cdc::kNone),
        left_of_(right.tree.inode_count(), cdc::kNone) {}

  void run() {
    take(".", 0, 0);
    enter(0, 0, 0);
    while (!stack_.empty()) {
      if (stack_.back().left.empty() && stack_.back().right.empty()) {
        stack_.pop_back();
      } else {
        step();
      }
    }
  }

 private:
  struct Level {  // entries that are still to come
    std::span<const cdc::Entry> left;
    std::span<const cdc::Entry> right;
    std::size_t prefix = 0;  // length of path_ for this directory
  };

  void enter(std::uint32_t left, std::uint32_t right, std::size_t prefix) {
    const auto entries = [](const cdc::Tree& tree, std::uint32_t inode) {
      const bool directory = inode != cdc::kNone && tree.inode(inode).type == NodeType::kDirectory;
      return directory ? tree.entries_of(tree.inode(inode)) : std::span<const cdc::Entry>();
    };
    stack_.push_back({entries(left_.tree, left), entries(right_.tree, right), prefix});
  }

  // The first name of those to come, on the sides that have it.
  void step() {
    Level& level = stack_.back();
    const auto name = [](const cdc::Tree& tree, std::span<const cdc::Entry> rest) {
      return tree.name(rest[0]);
    };
    const int order = level.left.empty() ? 1
                      : level.right.empty()
                          ? -1
                          : name(left_.tree, level.left).compare(name(right_.tree, level.right));
    path_.resize(level.prefix);
    path_ += order <= 0 ? name(left_.tree, level.left) : name(right_.tree, level.right);
    std::uint32_t left = cdc::kNone;
    std::uint32_t right = cdc::kNone;
    if (order <= 0) {
      left = level.left[0].inode;
      level.left = level.left.subspan(1);
    }
    if (order >= 0) {
      right = level.right[0].inode;
      level.right = level.right.subspan(1);
    }
    take(path_, left, right);
    path_ += '/';
    enter(left, right, path_.size());
  }

  void take(const std::string& path, std::uint32_t left, std::uint32_t right) {
    Difference difference{Change::kSame, path, left, right, ""};
    if (left == cdc::kNone) {
      difference.change = Change::kAdded;
    } else if (right == cdc::kNone) {
      difference.change = Change::kRemoved;
    } else {
      describe(left, right, difference);
    }
    visit_(difference);
  }

  // Looks for the first thing that is not the same.
  void describe(std::uint32_t left, std::uint32_t right, Difference& difference) {
    difference.what = describe_value(left_.tree.inode(left), right_.tree.inode(right));
    if (!difference.what.empty()) {
      difference.change = Change::kChanged;
      return;
    }
    difference.what = describe_attributes(left, right);
    if (!difference.what.empty()) difference.change = Change::kAttributes;
  }

  std::string describe_attributes(std::uint32_t left, std::uint32_t right) {
    const Inode& one = left_.tree.inode(left);
    const Inode& two = right_.tree.inode(right);
    if (one.mode != two.mode) return fmt::format("mode: {:04o} and {:04o}", one.mode, two.mode);
    if (owner(one) != owner(two)) return differs("owner", owner(one), owner(two));
    if (mtime(one) != mtime(two)) return differs("mtime", mtime(one), mtime(two));
    const std::string xattrs = changed_xattrs(left_.tree.xattrs(one), right_.tree.xattrs(two));
    if (!xattrs.empty()) return "extended attributes: " + xattrs;
    return one.type == NodeType::kDirectory ? "" : describe_links(left, right);
  }

  std::string describe_value(const Inode& one, const Inode& two) const {
    if (one.type != two.type) return differs("type", name_of(one.type), name_of(two.type));
    switch (one.type) {
      case NodeType::kRegular: {
        const auto& left_id = left_.ids[one.value];
        const auto& right_id = right_.ids[two.value];
        if (left_id == right_id) return "";
        return fmt::format("content: {} of {} bytes and {} of {} bytes", left_id.hex(),
                           left_.tree.size_of(one), right_id.hex(), right_.tree.size_of(two));
      }
      case NodeType::kSymlink: {
        const auto left = left_.tree.symlink_target(one);
        const auto right = right_.tree.symlink_target(two);
        return left == right ? "" : differs("target", log::printable(left), log::printable(right));
      }
      case NodeType::kCharDevice:
      case NodeType::kBlockDevice:
        return device(one) == device(two) ? "" : differs("device", device(one), device(two));
      case NodeType::kDirectory:
      case NodeType::kFifo: return "";
    }
    return "";
  }

  // Links are right when inodes pair up one to one. Names that only one side has are differences
  // of their own, but change the number of links.
  std::string describe_links(std::uint32_t left, std::uint32_t right) {
    std::uint32_t& partner = right_of_[left];
    std::uint32_t& other = left_of_[right];
    const bool first = partner == cdc::kNone && other == cdc::kNone;
    if (first) {
      partner = right;
      other = left;
    }
    const auto one = left_.tree.inode(left).link_count;
    const auto two = right_.tree.inode(right).link_count;
    if (one != two) return differs("links", one, two);
    return partner == right && other == left ? "" : "links: to different files";
  }

  const Content& left_;
  const Content& right_;
  const std::function<void(const Difference&)>& visit_;
  std::vector<std::uint32_t> right_of_;  // inodes of other types than directories, once paired
  std::vector<std::uint32_t> left_of_;
  std::vector<Level> stack_;
  std::string path_;
};

oci::Json without_layers(const oci::ImageConfig& config) {
  oci::Json rest = config.json;
  for (const char* member : {"rootfs", "history", "created"}) rest.erase(member);
  return rest;
}

}  // namespace

Content content_of(const cdc::Manifest& manifest) {
  Content content{manifest.tree(), {}};
  content.ids.reserve(manifest.objects().count());
  for (std::uint32_t i = 0; i < manifest.objects().count(); ++i) {
    content.ids.push_back(manifest.objects().id(i));
  }
  return content;
}

void compare_trees(const Content& left, const Content& right,
                   const std::function<void(const Difference&)>& visit) {
  Comparison(left, right, visit).run();
}

std::vector<std::string> compare_configs(const oci::ImageConfig& left,
                                         const oci::ImageConfig& right) {
  std::vector<std::string> paths;
  for (const auto& change : oci::Json::diff(without_layers(left), without_layers(right))) {
    paths.push_back(change["path"]);
  }
  return paths;
}

}  // namespace imsy::cli::image
