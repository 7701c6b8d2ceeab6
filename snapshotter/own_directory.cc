#include "snapshotter/own_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace imsy::snapshotter {
namespace {

Status check_one(const std::filesystem::path& path) {
  struct stat st = {};
  if (lstat(path.c_str(), &st) != 0) return Error::from_errno(errno, "stat " + path.string());
  const auto refuse = [&path](const std::string& why) {
    return Error(Errc::kFailedPrecondition, path.string() + " " + why);
  };
  if (!S_ISDIR(st.st_mode)) return refuse("is not a directory");
  if (st.st_uid != 0 && st.st_uid != geteuid()) {
    return refuse("belongs to user " + std::to_string(st.st_uid) + ": chown it to root");
  }
  // In a sticky directory others cannot touch what is not theirs.
  const bool open_to_others = (st.st_mode & (S_IWGRP | S_IWOTH)) != 0;
  if (open_to_others && (st.st_mode & S_ISVTX) == 0) {
    return refuse("can be changed by other users: chmod go-w it");
  }
  return {};
}

// mkdir -p; only the last directory gets `mode`.
Status make_missing(const std::filesystem::path& path, mode_t mode) {
  if (mkdir(path.c_str(), mode) == 0) {
    // The umask does not decide here.
    if (chmod(path.c_str(), mode) == 0) return {};
    return Error::from_errno(errno, "set the mode of " + path.string());
  }
  if (errno == EEXIST) return {};
  if (errno != ENOENT || !path.has_relative_path()) {
    return Error::from_errno(errno, "make directory " + path.string());
  }
  IMSY_TRY(make_missing(path.parent_path(), 0755));
  return make_missing(path, mode);
}

}  // namespace

Result<std::filesystem::path> own_directory(const std::filesystem::path& path, mode_t mode) {
  std::error_code error;
  auto whole = std::filesystem::absolute(path, error).lexically_normal();
  if (error) return Error::from_errno(error.value(), "resolve " + path.string());
  if (!whole.has_filename()) whole = whole.parent_path();  // "dir/"
  IMSY_TRY(make_missing(whole, mode));
  // A link in the last place could be planted; links above it belong to directories checked below.
  IMSY_TRY(check_one(whole));
  const auto real = std::filesystem::canonical(whole, error);
  if (error) return Error::from_errno(error.value(), "resolve " + whole.string());
  for (auto part = real;; part = part.parent_path()) {
    IMSY_TRY(check_one(part));
    if (part == part.parent_path()) return real;
  }
}

Result<UniqueFd> lock_directory(const std::filesystem::path& directory) {
  const auto path = directory / "lock";
  IMSY_TRY_ASSIGN(UniqueFd fd, open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Error::from_errno(errno, "lock " + path.string());
    std::string holder = "another process";
    if (const auto text = read_file(path, 64); text && !text->empty()) {
      holder = std::string(as_text(*text));
      if (holder.back() == '\n') holder.pop_back();
    }
    return Error(Errc::kUnavailable, directory.string() + " is in use by " + holder +
                                         ": stop it, or choose another directory");
  }
  const std::string holder = "imsy-snapshotter, pid " + std::to_string(getpid()) + "\n";
  if (ftruncate(fd.get(), 0) != 0) return Error::from_errno(errno, "truncate " + path.string());
  IMSY_TRY(pwrite_all(fd.get(), as_bytes(holder), 0));
  return fd;
}

}  // namespace imsy::snapshotter
