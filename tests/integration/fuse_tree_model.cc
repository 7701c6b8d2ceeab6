#include "tests/integration/fuse_tree_model.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <sstream>
#include <utility>
#include <vector>

#include "common/io.h"

namespace imsy::fuse::testing {
namespace {

constexpr std::size_t kPathMax = 4095;
constexpr std::size_t kFileMax = 300'000;

// Makes the same tree twice: as an image and as what is expected of it.
class TreeMaker {
 public:
  TreeMaker(std::uint64_t seed, int nodes) : random_(seed) {
    const Look root = look(kDirectories);
    builder_ = std::make_unique<ImageBuilder>(root);
    expect("", S_IFDIR, root).links = 2;
    directories_.push_back({"", ImageBuilder::kRoot});
    for (int i = 0; i < nodes; ++i) add_one();
  }

  RandomTree finish() {
    for (auto& [path, node] : tree_.nodes) {
      if (!S_ISDIR(node.mode)) node.links = static_cast<std::uint64_t>(group_sizes_[node.group]);
    }
    tree_.image = builder_->build();
    return std::move(tree_);
  }

 private:
  enum XattrUse { kDirectories, kFiles, kOthers };
  struct Place {
    std::string path;
    ImageBuilder::Node node;
  };

  std::uint64_t below(std::uint64_t limit) {
    return std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(random_);
  }

  std::string bytes(std::size_t size) {
    std::string text(size, '\0');
    for (char& c : text) c = static_cast<char>(random_());
    return text;
  }

  // Any bytes that a name may have; now and then as long as can be.
  std::string name() {
    for (;;) {
      std::string name = bytes(below(20) == 0 ? 255 : 1 + below(24));
      if (below(2) == 0) {
        for (char& c : name) c = static_cast<char>('a' + static_cast<unsigned char>(c) % 26);
      }
      if (name.find_first_of(std::string("/\0", 2)) == std::string::npos && name != "." &&
          name != ".." && !name.starts_with(".wh.")) {
        return name;
      }
    }
  }

  // The kernel gives user.* to files and directories only.
  std::vector<cdc::Xattr> xattrs(XattrUse use) {
    std::vector<cdc::Xattr> list;
    if (below(5) != 0) return list;
    for (std::uint64_t i = 0; i <= below(3); ++i) {
      const std::string space = use == kOthers || below(2) == 0 ? "security.imsy" : "user.x";
      list.push_back({space + std::to_string(i), bytes(below(8) == 0 ? 5000 : below(20))});
    }
    return list;
  }

  Look look(XattrUse use) {
    Look look;
    look.mode = static_cast<std::uint16_t>(below(010000));
    look.uid = below(3) == 0 ? 4294967294 - static_cast<std::uint32_t>(below(9))
                             : static_cast<std::uint32_t>(below(70000));
    look.gid = static_cast<std::uint32_t>(below(70000));
    look.mtime_s = static_cast<std::int64_t>(below(std::uint64_t{1} << 34)) - (1ll << 32);
    look.mtime_ns = static_cast<std::uint32_t>(below(1'000'000'000));
    look.xattrs = xattrs(use);
    return look;
  }

  ExpectedNode& expect(const std::string& path, mode_t type, const Look& look) {
    ExpectedNode node;
    node.mode = type | look.mode;
    node.uid = look.uid;
    node.gid = look.gid;
    node.mtime_s = look.mtime_s;
    node.mtime_ns = look.mtime_ns;
    for (const auto& [key, value] : look.xattrs) node.xattrs[key] = value;
    node.group = ++last_group_;
    group_sizes_[node.group] = 1;
    return tree_.nodes[path] = std::move(node);
  }

  void add_one() {
    const Place parent = directories_[below(directories_.size())];
    const std::string own = name();
    const std::string path = parent.path.empty() ? own : parent.path + "/" + own;
    if (path.size() > kPathMax || tree_.nodes.contains(path)) return;
    switch (below(10)) {
      case 0:
      case 1: return add_directory(parent, own, path);
      case 2: return add_symlink(parent, own, path);
      case 3: return add_device(parent, own, path);
      case 4: return add_fifo(parent, own, path);
      case 5: return add_link(parent, own, path);
      default: return add_file(parent, own, path);
    }
  }

  void add_directory(const Place& parent, const std::string& own, const std::string& path) {
    const Look all = look(kDirectories);
    expect(path, S_IFDIR, all).links = 2;
    ++tree_.nodes[parent.path].links;
    directories_.push_back({path, builder_->directory(parent.node, own, all)});
  }

  void add_file(const Place& parent, const std::string& own, const std::string& path) {
    const Look all = look(kFiles);
    const std::string content = bytes(below(4) == 0 ? below(kFileMax) : below(9000));
    expect(path, S_IFREG, all).text = content;
    linkable_.push_back({path, builder_->file(parent.node, own, content, all)});
  }

  void add_symlink(const Place& parent, const std::string& own, const std::string& path) {
    Look all = look(kOthers);
    all.mode = 0777;
    std::string target = bytes(1 + below(below(10) == 0 ? 4094 : 60));
    std::replace(target.begin(), target.end(), '\0', '/');
    expect(path, S_IFLNK, all).text = target;
    linkable_.push_back({path, builder_->symlink(parent.node, own, target, all)});
  }

  void add_device(const Place& parent, const std::string& own, const std::string& path) {
    const Look all = look(kOthers);
    const bool block = below(2) == 0;
    const auto major = static_cast<std::uint32_t>(1 + below(4095));
    const auto minor = static_cast<std::uint32_t>(below(1u << 20));
    expect(path, block ? S_IFBLK : S_IFCHR, all).rdev = makedev(major, minor);
    linkable_.push_back(
        {path, builder_->device(parent.node, own,
                                block ? cdc::NodeType::kBlockDevice : cdc::NodeType::kCharDevice,
                                major, minor, all)});
  }

  void add_fifo(const Place& parent, const std::string& own, const std::string& path) {
    const Look all = look(kOthers);
    expect(path, S_IFIFO, all);
    linkable_.push_back({path, builder_->fifo(parent.node, own, all)});
  }

  void add_link(const Place& parent, const std::string& own, const std::string& path) {
    if (linkable_.empty()) return;
    const Place& to = linkable_[below(linkable_.size())];
    const ExpectedNode copy = tree_.nodes[to.path];
    tree_.nodes[path] = copy;
    ++group_sizes_[copy.group];
    builder_->link(parent.node, own, to.node);
  }

  std::mt19937_64 random_;
  std::unique_ptr<ImageBuilder> builder_;
  RandomTree tree_;
  std::vector<Place> directories_;
  std::vector<Place> linkable_;
  int last_group_ = 0;
  std::map<int, int> group_sizes_;
};

// Walks a mounted directory and notes what differs. Paths may be longer than one system call takes,
// so it goes down by descriptors.
class Comparison {
 public:
  Comparison(const RandomTree& expected, bool through_overlay)
      : expected_(expected), through_overlay_(through_overlay) {}

  std::string run(const std::string& directory) {
    UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) return "open " + directory + ": " + std::strerror(errno) + "\n";
    if (through_overlay_) {
      seen_.insert("");
    } else {
      check(fd.get(), ".", "");
    }
    walk(std::move(fd), "");
    for (const auto& [path, node] : expected_.nodes) {
      if (!seen_.contains(path)) note(path, "is missing", "");
    }
    return differences_.str();
  }

 private:
  using Identity = std::pair<dev_t, ino_t>;

  void note(const std::string& path, const std::string& what, const std::string& more) {
    differences_ << "\"" << path << "\" " << what << " " << more << "\n";
  }

  template <typename T>
  void same(const std::string& path, const char* what, const T& actual, const T& expected) {
    if (actual == expected) return;
    std::ostringstream more;
    more << actual << ", expected " << expected;
    note(path, what, more.str());
  }

  void walk(UniqueFd directory, const std::string& prefix) {
    DIR* list = ::fdopendir(directory.get());
    if (list == nullptr) return note(prefix, "fdopendir", std::strerror(errno));
    directory.release();
    while (const dirent* entry = ::readdir(list)) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      const std::string path = prefix.empty() ? name : prefix + "/" + name;
      const auto found = expected_.nodes.find(path);
      if (found == expected_.nodes.end()) {
        note(path, "should not be there", "");
        continue;
      }
      same(path, "type in readdir", unsigned{entry->d_type}, unsigned{IFTODT(found->second.mode)});
      check(::dirfd(list), name, path);
      if (!S_ISDIR(found->second.mode)) continue;
      UniqueFd below(
          ::openat(::dirfd(list), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      below ? walk(std::move(below), path) : note(path, "open", std::strerror(errno));
    }
    ::closedir(list);
  }

  void check(int directory, const std::string& name, const std::string& path) {
    const ExpectedNode& expected = expected_.nodes.at(path);
    if (!seen_.insert(path).second) note(path, "is listed twice", "");
    struct stat st;
    if (::fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
      return note(path, "stat", std::strerror(errno));
    }
    same(path, "mode", st.st_mode, expected.mode);
    same(path, "uid", st.st_uid, expected.uid);
    same(path, "gid", st.st_gid, expected.gid);
    same(path, "mtime", std::int64_t{st.st_mtim.tv_sec}, expected.mtime_s);
    same(path, "mtime ns", static_cast<std::uint32_t>(st.st_mtim.tv_nsec), expected.mtime_ns);
    if (!through_overlay_ || !S_ISDIR(expected.mode)) {
      same(path, "links", std::uint64_t{st.st_nlink}, expected.links);
    }
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) same(path, "device", st.st_rdev, expected.rdev);
    if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) {
      same(path, "size", static_cast<std::size_t>(st.st_size), expected.text.size());
    }
    const Identity identity{st.st_dev, st.st_ino};
    if (inodes_.try_emplace(expected.group, identity).first->second != identity) {
      note(path, "is another inode than its hard links", "");
    }
    if (groups_.try_emplace(identity, expected.group).first->second != expected.group) {
      note(path, "shares its inode number with a stranger", "");
    }
    check_text(directory, name, path, expected);
    check_xattrs(directory, name, path, expected);
  }

  void check_text(int directory, const std::string& name, const std::string& path,
                  const ExpectedNode& expected) {
    std::string text(kFileMax + kPathMax, '\0');
    ssize_t got = 0;
    if (S_ISLNK(expected.mode)) {
      got = ::readlinkat(directory, name.c_str(), text.data(), text.size());
    } else if (S_ISREG(expected.mode)) {
      const UniqueFd fd(::openat(directory, name.c_str(), O_RDONLY | O_CLOEXEC));
      got = fd ? ::pread(fd.get(), text.data(), text.size(), 0) : -1;
    }
    if (got < 0) return note(path, "read", std::strerror(errno));
    text.resize(static_cast<std::size_t>(got));
    if (text != expected.text) note(path, "has other content", "");
  }

  void check_xattrs(int directory, const std::string& name, const std::string& path,
                    const ExpectedNode& expected) {
    const std::string file = "/proc/self/fd/" + std::to_string(directory) + "/" + name;
    std::string list(64 << 10, '\0');
    const ssize_t size = ::llistxattr(file.c_str(), list.data(), list.size());
    if (size < 0) return note(path, "listxattr", std::strerror(errno));
    std::map<std::string, std::string> actual;
    for (const char* at = list.data(); at < list.data() + size; at += std::strlen(at) + 1) {
      std::string value(64 << 10, '\0');
      const ssize_t got = ::lgetxattr(file.c_str(), at, value.data(), value.size());
      if (got < 0) return note(path, at, std::strerror(errno));
      value.resize(static_cast<std::size_t>(got));
      actual[at] = std::move(value);
    }
    if (actual != expected.xattrs) {
      note(path, "xattrs",
           std::to_string(actual.size()) + " instead of " + std::to_string(expected.xattrs.size()) +
               ", or other values");
    }
  }

  const RandomTree& expected_;
  const bool through_overlay_;
  std::set<std::string> seen_;
  std::map<int, Identity> inodes_;
  std::map<Identity, int> groups_;
  std::ostringstream differences_;
};

}  // namespace

RandomTree random_tree(std::uint64_t seed, int nodes) {
  return TreeMaker(seed, nodes).finish();
}

std::string compare(const std::string& directory, const RandomTree& expected,
                    bool through_overlay) {
  return Comparison(expected, through_overlay).run(directory);
}

}  // namespace imsy::fuse::testing
