#include "cli/seed/directory.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <vector>

namespace imsy::cli::seed {
namespace {

constexpr std::size_t kPieceSize = 128 << 10;

// O_NONBLOCK: a fifo under an entry's name must not stop us; regular files do not care.
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

Result<UniqueFd> open_beneath(int dir_fd, const std::string& name) {
  open_how how{};
  how.flags = kOpenFlags;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  for (;;) {
    const long fd = ::syscall(SYS_openat2, dir_fd, name.c_str(), &how, sizeof how);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    // EAGAIN: somebody renamed a directory meanwhile.
    if (errno == EINTR || errno == EAGAIN) continue;
    // A sandbox that does not know the call. A name without a slash is as safe this way.
    if (errno == ENOSYS || errno == EPERM) {
      return open_file_at(dir_fd, name, kOpenFlags | O_NOFOLLOW);
    }
    return Error::from_errno(errno, "open " + name);
  }
}

// Whether the file holds exactly `data`.
Result<bool> holds(int fd, ByteSpan data) {
  IMSY_TRY_ASSIGN(const std::uint64_t size, file_size(fd));
  if (size != data.size()) return false;
  std::vector<std::byte> piece(std::min(kPieceSize, data.size()));
  for (std::size_t offset = 0; offset < data.size();) {
    const std::size_t wanted = std::min(piece.size(), data.size() - offset);
    IMSY_TRY(pread_all(fd, std::span(piece).first(wanted), offset));
    if (std::memcmp(piece.data(), data.data() + offset, wanted) != 0) return false;
    offset += wanted;
  }
  return true;
}

}  // namespace

Result<Directory> Directory::open(const std::filesystem::path& path) {
  // A failure shows, with a better message, when the directory is opened.
  std::error_code ignored;
  std::filesystem::create_directories(path, ignored);
  Directory directory;
  directory.path_ = path;
  IMSY_TRY_ASSIGN(directory.fd_, open_file(path, O_RDONLY | O_DIRECTORY));
  return directory;
}

Result<UniqueFd> Directory::open_entry(const Digest& digest) const {
  const std::string name = digest.hex();
  auto fd = open_beneath(fd_.get(), name);
  const int err = fd ? 0 : fd.error().sys_errno();
  const bool is_symlink = err == ELOOP;
  const bool is_socket = err == ENXIO;
  if (is_symlink || is_socket) return Error(Errc::kNotFound, name + ": not a regular file");
  if (!fd) return fd.error();
  struct stat st {};
  if (::fstat(fd->get(), &st) != 0) return Error::from_errno(errno, "fstat " + name);
  if (!S_ISREG(st.st_mode)) return Error(Errc::kNotFound, name + ": not a regular file");
  return std::move(*fd);
}

Result<Bytes> Directory::load(const Digest& digest, std::uint64_t limit) const {
  IMSY_TRY_ASSIGN(const UniqueFd fd, open_entry(digest));
  IMSY_TRY_ASSIGN(const std::uint64_t size, file_size(fd.get()));
  if (size > limit) {
    return Error(Errc::kInvalid, digest.hex() + ": has " + std::to_string(size) +
                                     " bytes, at most " + std::to_string(limit) + " are allowed");
  }
  Bytes data(size);
  if (auto read = pread_all(fd.get(), data, 0); !read) {
    return read.error().with_context(digest.hex());
  }
  if (sha256(data) != digest) {
    return Error(Errc::kCorrupt, digest.hex() + ": the file's bytes do not match its name");
  }
  return data;
}

Status Directory::store(const Digest& digest, ByteSpan data) const {
  if (auto present = open_entry(digest)) {
    const auto same = holds(present->get(), data);
    // A file that cannot be read is as good as a damaged one.
    if (same.value_or(false)) return {};
  }
  IMSY_TRY_ASSIGN(auto file, AtomicFile::create(path_ / digest.hex(), 0666));
  if (auto written = write_all(file.fd(), data); !written) {
    return written.error().with_context((path_ / digest.hex()).string());
  }
  return file.commit(/*durable=*/false);
}

Status Directory::sync() const {
  if (::syncfs(fd_.get()) != 0) return Error::from_errno(errno, "sync " + path_.string());
  return {};
}

}  // namespace imsy::cli::seed
