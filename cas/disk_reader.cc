#include "cas/disk_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/sys.h"

namespace imsy::cas {
namespace {

// What every disk can read: offsets, lengths and memory are multiples of it.
constexpr std::uint64_t kBlock = 4096;

// Reads until `size` bytes are there or the file ends.
Result<std::size_t> read_up_to(int fd, std::byte* to, std::size_t size, std::uint64_t offset) {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t got = sys::pread(fd, to + done, size - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno(errno, "read from the disk");
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
    // The end of the file: with O_DIRECT there is no reading on from here.
    if (done % kBlock != 0) break;
  }
  return done;
}

}  // namespace

DiskReader::DiskReader(UniqueFd file) : file_(std::move(file)) {
  const int flags = ::fcntl(file_.get(), F_GETFL);
  direct_ = ::fcntl(file_.get(), F_SETFL, flags | O_DIRECT) == 0;
  if (!direct_) use_cache();
}

void DiskReader::use_cache() {
  ::fcntl(file_.get(), F_SETFL, ::fcntl(file_.get(), F_GETFL) & ~O_DIRECT);
  direct_ = false;
  // What was written lately has to be on the disk before it can be dropped.
  sys::fdatasync(file_.get());
  ::posix_fadvise(file_.get(), 0, 0, POSIX_FADV_DONTNEED);
}

Status DiskReader::reserve(std::size_t size) {
  if (size <= capacity_) return {};
  buffer_.reset(static_cast<std::byte*>(std::aligned_alloc(kBlock, size)));
  capacity_ = buffer_ == nullptr ? 0 : size;
  if (buffer_ == nullptr) return Error(Errc::kUnavailable, "no memory to read a file into");
  return {};
}

Result<ByteSpan> DiskReader::read(std::uint64_t offset, std::size_t length) {
  const std::uint64_t begin = offset / kBlock * kBlock;
  const std::uint64_t end = (offset + length + kBlock - 1) / kBlock * kBlock;
  IMSY_TRY(reserve(static_cast<std::size_t>(end - begin)));
  const auto size = static_cast<std::size_t>(end - begin);
  auto got = read_up_to(file_.get(), buffer_.get(), size, begin);
  if (!got && direct_ && got.error().sys_errno() == EINVAL) {
    use_cache();  // its blocks are larger, or it cannot after all
    got = read_up_to(file_.get(), buffer_.get(), size, begin);
  }
  if (!got) return got.error();
  const auto skipped = static_cast<std::size_t>(offset - begin);
  if (*got < skipped + length) {
    return Error(Errc::kCorrupt, "the file ends before byte " + std::to_string(offset + length));
  }
  return ByteSpan(buffer_.get() + skipped, length);
}

}  // namespace imsy::cas
