#include "snapshotter/tree_walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/io.h"

namespace imsy::snapshotter {
namespace {

using Inode = std::pair<dev_t, ino_t>;

constexpr int kOpenDirectory = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

Inode inode_of(const struct stat& st) {
  return {st.st_dev, st.st_ino};
}

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};

// The names in a directory, without "." and "..".
Result<std::vector<std::string>> names_in(int fd) {
  const int copy = openat(fd, ".", kOpenDirectory);
  if (copy < 0) return Error::from_errno(errno, "open a directory to list it");
  const std::unique_ptr<DIR, CloseDirectory> directory(fdopendir(copy));
  if (directory == nullptr) {
    const int error = errno;
    close(copy);
    return Error::from_errno(error, "list a directory");
  }
  std::vector<std::string> names;
  while (true) {
    errno = 0;
    const dirent* entry = readdir(directory.get());
    if (entry == nullptr) break;
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  if (errno != 0) return Error::from_errno(errno, "list a directory");
  return names;
}

// What is done at each step of a walk.
class Visitor {
 public:
  virtual ~Visitor() = default;
  // An entry of the directory `fd`. Directories are entered afterwards.
  virtual Status entry(int fd, const std::string& name, const struct stat& st) = 0;
  // The directory `name` in `fd` has been walked.
  virtual Status leave(int fd, const std::string& name) = 0;
};

// A directory on the way from the root of the walk to where it stands.
struct Level {
  std::string name;  // in the level above
  Inode inode;
  std::vector<std::string> directories;  // still to enter
};

class Walk {
 public:
  Walk(UniqueFd root, dev_t device, Visitor& visitor)
      : fd_(std::move(root)), device_(device), visitor_(visitor) {}

  Status run(const struct stat& root) {
    IMSY_TRY(enter("", root));
    while (true) {
      Level& level = levels_.back();
      if (!level.directories.empty()) {
        const std::string name = std::move(level.directories.back());
        level.directories.pop_back();
        IMSY_TRY(descend(name));
      } else if (levels_.size() > 1) {
        IMSY_TRY(ascend());
      } else {
        return {};
      }
    }
  }

 private:
  Status descend(const std::string& name) {
    UniqueFd child(openat(fd_.get(), name.c_str(), kOpenDirectory));
    struct stat st = {};
    // What disappeared or was replaced meanwhile is not there to be walked.
    if (!child || fstat(child.get(), &st) != 0) {
      if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) return {};
      return Error::from_errno(errno, "open directory " + name);
    }
    if (st.st_dev != device_) return {};
    fd_ = std::move(child);
    return enter(name, st);
  }

  Status ascend() {
    UniqueFd parent(openat(fd_.get(), "..", kOpenDirectory));
    if (!parent) return Error::from_errno(errno, "open the parent of " + levels_.back().name);
    const std::string name = std::move(levels_.back().name);
    levels_.pop_back();
    struct stat st = {};
    if (fstat(parent.get(), &st) != 0 || inode_of(st) != levels_.back().inode) {
      return Error(Errc::kFailedPrecondition, "directory " + name + " was moved during a walk");
    }
    fd_ = std::move(parent);
    return visitor_.leave(fd_.get(), name);
  }

  Status enter(const std::string& name, const struct stat& st) {
    levels_.push_back({name, inode_of(st), {}});
    IMSY_TRY_ASSIGN(const auto names, names_in(fd_.get()));
    for (const std::string& entry : names) {
      struct stat found = {};
      if (fstatat(fd_.get(), entry.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        return Error::from_errno(errno, "stat " + entry);
      }
      if (S_ISDIR(found.st_mode)) levels_.back().directories.push_back(entry);
      IMSY_TRY(visitor_.entry(fd_.get(), entry, found));
    }
    return {};
  }

  UniqueFd fd_;  // the directory where the walk stands
  const dev_t device_;
  Visitor& visitor_;
  std::vector<Level> levels_;
};

Status walk(const std::filesystem::path& directory, Visitor& visitor) {
  IMSY_TRY_ASSIGN(UniqueFd root, open_file(directory, kOpenDirectory));
  struct stat st = {};
  if (fstat(root.get(), &st) != 0) return Error::from_errno(errno, "stat " + directory.string());
  const Status walked = Walk(std::move(root), st.st_dev, visitor).run(st);
  if (!walked) return walked.error().with_context(directory.string());
  return {};
}

class Count : public Visitor {
 public:
  explicit Count(std::chrono::steady_clock::time_point deadline) : deadline_(deadline) {}

  Status entry(int, const std::string&, const struct stat& st) override {
    add(st);
    if (usage_.inodes % 1024 == 0 && std::chrono::steady_clock::now() > deadline_) {
      return Error(Errc::kTimeout, "measuring takes too long");
    }
    return {};
  }
  Status leave(int, const std::string&) override { return {}; }

  void add(const struct stat& st) {
    if (st.st_nlink > 1 && !S_ISDIR(st.st_mode) && !linked_.insert(inode_of(st)).second) return;
    usage_.size += st.st_blocks * 512;
    usage_.inodes += 1;
  }
  const Usage& usage() const { return usage_; }

 private:
  const std::chrono::steady_clock::time_point deadline_;
  Usage usage_;
  std::set<Inode> linked_;  // counted, with more names than one
};

class Delete : public Visitor {
 public:
  explicit Delete(const std::stop_token& stop) : stop_(stop) {}

  Status entry(int fd, const std::string& name, const struct stat& st) override {
    if (S_ISDIR(st.st_mode)) return {};
    if (stop_.stop_requested()) return Error(Errc::kCancelled, "deleting was interrupted");
    return unlink_at(fd, name, 0);
  }
  Status leave(int fd, const std::string& name) override {
    return unlink_at(fd, name, AT_REMOVEDIR);
  }

 private:
  static Status unlink_at(int fd, const std::string& name, int flags) {
    if (unlinkat(fd, name.c_str(), flags) == 0 || errno == ENOENT) return {};
    return Error::from_errno(errno, "remove " + name);
  }

  const std::stop_token stop_;
};

}  // namespace

Result<Measured> disk_usage(const std::filesystem::path& directory,
                            std::chrono::steady_clock::time_point deadline) {
  Count count(deadline);
  struct stat st = {};
  if (lstat(directory.c_str(), &st) != 0) {
    return Error::from_errno(errno, "stat " + directory.string());
  }
  count.add(st);
  const Status walked = walk(directory, count);
  if (walked) return Measured{count.usage(), true};
  const Errc code = walked.error().code();
  if (code != Errc::kTimeout && code != Errc::kFailedPrecondition) return walked.error();
  return Measured{count.usage(), false};
}

Status remove_tree(const std::filesystem::path& directory, const std::stop_token& stop) {
  Delete everything(stop);
  const Status walked = walk(directory, everything);
  if (!walked && walked.error().code() == Errc::kNotFound) return {};
  IMSY_TRY(walked);
  if (rmdir(directory.c_str()) != 0 && errno != ENOENT) {
    return Error::from_errno(errno, "remove directory " + directory.string());
  }
  return {};
}

}  // namespace imsy::snapshotter
