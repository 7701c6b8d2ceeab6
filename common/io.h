// Files: owned descriptors, whole reads and writes, atomic replacement.
//
// Threads: free functions, any thread. All may wait for the disk.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "common/bytes.h"
#include "common/result.h"

namespace imsy {

// Owns a file descriptor. Everything we open is close-on-exec.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset();
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

// open(2) with O_CLOEXEC, retried on EINTR.
Result<UniqueFd> open_file(const std::filesystem::path& path, int flags, mode_t mode = 0);
Result<UniqueFd> open_file_at(int dir_fd, const std::string& name, int flags, mode_t mode = 0);

// Reads exactly buffer.size() bytes at `offset`. kCorrupt when the file ends before.
Status pread_all(int fd, std::span<std::byte> buffer, std::uint64_t offset);
Status pwrite_all(int fd, ByteSpan data, std::uint64_t offset);
Status write_all(int fd, ByteSpan data);
// Reads up to buffer.size() bytes from a stream; 0 means its end.
Result<std::size_t> read_some(int fd, std::span<std::byte> buffer);
// The whole file; kInvalid when it is larger than `limit` bytes.
Result<Bytes> read_file(const std::filesystem::path& path, std::uint64_t limit);
Result<std::uint64_t> file_size(int fd);

// Makes `path` hold `data`: temporary file in the same directory, fdatasync, rename, fsync of the
// directory. After a crash the file holds the old content or the new, never a mixture.
Status replace_file(const std::filesystem::path& path, ByteSpan data, mode_t mode = 0600);

// The file that writing to `path` is meant to replace: symlinks are followed. kInvalid when
// something else than a file is there, such as a device.
Result<std::filesystem::path> replaceable_file(const std::filesystem::path& path);

// fsync of a directory, so that renames in it survive a power cut.
Status sync_directory(const std::filesystem::path& path);

// A file in the directory of `target`, which becomes `target` by commit(). Without commit() it
// disappears, also when the process is killed (on file systems that know unnamed files).
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::filesystem::path& target, mode_t mode = 0644);
  AtomicFile(AtomicFile&& other) noexcept
      : fd_(std::move(other.fd_)),
        temporary_(std::exchange(other.temporary_, {})),
        target_(std::move(other.target_)) {}
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  int fd() const { return fd_.get(); }
  // fdatasync if `durable`, rename, fsync of the directory if `durable`.
  Status commit(bool durable);

 private:
  AtomicFile() = default;
  Status link();

  UniqueFd fd_;
  std::filesystem::path temporary_;  // empty while the file has no name
  std::filesystem::path target_;
};

// An unnamed file in `dir` that is gone when its descriptor is closed (O_TMPFILE, else
// mkstemp and unlink).
Result<UniqueFd> anonymous_file(const std::filesystem::path& dir);

}  // namespace imsy
