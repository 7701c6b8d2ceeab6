#include "common/io.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "common/sys.h"

namespace imsy {
namespace {

std::string unique_suffix() {
  static std::atomic<std::uint64_t> counter{0};
  return ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1));
}

std::filesystem::path directory_of(const std::filesystem::path& path) {
  auto parent = path.parent_path();
  return parent.empty() ? std::filesystem::path(".") : parent;
}

std::filesystem::path temporary_name(const std::filesystem::path& target) {
  return directory_of(target) / ("." + target.filename().string() + unique_suffix());
}

}  // namespace

void UniqueFd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<UniqueFd> open_file(const std::filesystem::path& path, int flags, mode_t mode) {
  return open_file_at(AT_FDCWD, path.string(), flags, mode);
}

Result<UniqueFd> open_file_at(int dir_fd, const std::string& name, int flags, mode_t mode) {
  for (;;) {
    const int fd = sys::openat(dir_fd, name.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0) return UniqueFd(fd);
    if (errno != EINTR) return Error::from_errno(errno, "open " + name);
  }
}

Status pread_all(int fd, std::span<std::byte> buffer, std::uint64_t offset) {
  while (!buffer.empty()) {
    const ssize_t n = sys::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno(errno, "read");
    if (n == 0) return Error(Errc::kCorrupt, "read: the file ends too early");
    buffer = buffer.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Status pwrite_all(int fd, ByteSpan data, std::uint64_t offset) {
  while (!data.empty()) {
    const ssize_t n = sys::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno(errno, "write");
    data = data.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Status write_all(int fd, ByteSpan data) {
  while (!data.empty()) {
    const ssize_t n = sys::write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno(errno, "write");
    data = data.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

Result<std::size_t> read_some(int fd, std::span<std::byte> buffer) {
  for (;;) {
    const ssize_t n = sys::read(fd, buffer.data(), buffer.size());
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno != EINTR) return Error::from_errno(errno, "read");
  }
}

Result<Bytes> read_file(const std::filesystem::path& path, std::uint64_t limit) {
  IMSY_TRY_ASSIGN(auto fd, open_file(path, O_RDONLY));
  Bytes data;
  std::byte buffer[1 << 16];
  for (;;) {
    auto got = read_some(fd.get(), buffer);
    if (!got) return got.error().with_context(path.string());
    if (*got == 0) return data;
    if (data.size() + *got > limit) {
      return Error(Errc::kInvalid, path.string() + ": larger than the limit of " +
                                       std::to_string(limit) + " bytes");
    }
    append(data, std::span(buffer, *got));
  }
}

Result<std::uint64_t> file_size(int fd) {
  struct stat st {};
  if (sys::fstat(fd, &st) != 0) return Error::from_errno(errno, "fstat");
  return static_cast<std::uint64_t>(st.st_size);
}

Status sync_directory(const std::filesystem::path& path) {
  IMSY_TRY_ASSIGN(auto fd, open_file(path, O_RDONLY | O_DIRECTORY));
  if (sys::fsync(fd.get()) != 0) return Error::from_errno(errno, "fsync " + path.string());
  return {};
}

Result<std::filesystem::path> replaceable_file(const std::filesystem::path& path) {
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) {
    if (errno != ENOENT) return Error::from_errno(errno, "stat " + path.string());
    if (::lstat(path.c_str(), &st) != 0) return path;
    return Error(Errc::kInvalid, path.string() + ": is a symlink to nothing");
  }
  if (!S_ISREG(st.st_mode)) return Error(Errc::kInvalid, path.string() + ": is no regular file");
  std::error_code failed;
  auto target = std::filesystem::canonical(path, failed);
  if (failed) return Error::from_errno(failed.value(), "resolve " + path.string());
  return target;
}

Result<AtomicFile> AtomicFile::create(const std::filesystem::path& target, mode_t mode) {
  AtomicFile file;
  file.target_ = target;
  // A file without a name leaves nothing behind when the process is killed.
  if (auto unnamed = open_file(directory_of(target), O_RDWR | O_TMPFILE, mode)) {
    file.fd_ = std::move(*unnamed);
    return file;
  }
  // The file system cannot do that, or it fails this way too and then says why.
  auto name = temporary_name(target);
  auto fd = open_file(name, O_RDWR | O_CREAT | O_EXCL, mode);
  if (!fd) return fd.error();
  file.fd_ = std::move(*fd);
  file.temporary_ = std::move(name);
  return file;
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) sys::unlinkat(AT_FDCWD, temporary_.c_str(), 0);
}

// Gives an unnamed file the target's name, or a temporary one when the target exists: only rename
// can replace.
Status AtomicFile::link() {
  const std::string self = "/proc/self/fd/" + std::to_string(fd_.get());
  const auto link_as = [&](const std::filesystem::path& name) {
    return sys::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0;
  };
  if (link_as(target_)) return {};
  if (errno != EEXIST) return Error::from_errno(errno, "link " + target_.string());
  auto name = temporary_name(target_);
  if (!link_as(name)) return Error::from_errno(errno, "link " + name.string());
  temporary_ = std::move(name);
  return {};
}

Status AtomicFile::commit(bool durable) {
  if (durable && sys::fdatasync(fd_.get()) != 0) {
    return Error::from_errno(errno, "fdatasync " + target_.string());
  }
  if (temporary_.empty()) IMSY_TRY(link());
  if (!temporary_.empty() &&
      sys::renameat(AT_FDCWD, temporary_.c_str(), AT_FDCWD, target_.c_str()) != 0) {
    return Error::from_errno(errno, "rename to " + target_.string());
  }
  temporary_.clear();
  return durable ? sync_directory(directory_of(target_)) : Status();
}

Status replace_file(const std::filesystem::path& path, ByteSpan data, mode_t mode) {
  IMSY_TRY_ASSIGN(auto file, AtomicFile::create(path, mode));
  if (auto written = write_all(file.fd(), data); !written) {
    return written.error().with_context(path.string());
  }
  return file.commit(/*durable=*/true);
}

Result<UniqueFd> anonymous_file(const std::filesystem::path& dir) {
  const int fd = sys::openat(AT_FDCWD, dir.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) return UniqueFd(fd);
  if (errno != EOPNOTSUPP && errno != EISDIR) {
    return Error::from_errno(errno, "create a temporary file in " + dir.string());
  }
  std::string name = (dir / "imsy-XXXXXX").string();
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named < 0) return Error::from_errno(errno, "create a temporary file in " + dir.string());
  ::unlink(name.c_str());
  return UniqueFd(named);
}

}  // namespace imsy
