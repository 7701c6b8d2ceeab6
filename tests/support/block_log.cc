// A disk in a file, as a FUSE file system that remembers the order of writes and flushes.
//
//     block_log IMAGE LOG MOUNTPOINT
//
// mounts a directory of two files and stays in the foreground until it is unmounted:
//   disk     the bytes of IMAGE, for a loop device. Each write is appended to LOG as offset and
//            length (both 64 bits, of this machine) and the data, each flush as two numbers -1.
//   errors   write "OFFSET LENGTH": reads of the disk that touch these bytes fail with EIO from now
//            on. Truncating it ends that.
//
// One thread: the order in the log is that in which the device has answered.
#define FUSE_USE_VERSION 35
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Range {
  std::uint64_t offset;
  std::uint64_t length;
};

int image = -1;
int journal = -1;
std::vector<Range> errors;

bool is_disk(const char* path) {
  return std::string_view(path) == "/disk";
}

bool is_errors(const char* path) {
  return std::string_view(path) == "/errors";
}

int append(const Range& range, const char* data) {
  const std::size_t size = data == nullptr ? 0 : static_cast<std::size_t>(range.length);
  std::string record(reinterpret_cast<const char*>(&range), sizeof range);
  if (size > 0) record.append(data, size);
  // In one piece, so that nobody sees half of it.
  const ssize_t written = ::write(journal, record.data(), record.size());
  return written == static_cast<ssize_t>(record.size()) ? 0 : -EIO;
}

int get_attributes(const char* path, struct stat* result, fuse_file_info*) {
  *result = {};
  result->st_nlink = 1;
  if (std::string_view(path) == "/") {
    result->st_mode = S_IFDIR | 0700;
  } else if (is_disk(path)) {
    if (::fstat(image, result) != 0) return -errno;
    result->st_mode = S_IFREG | 0600;
  } else if (is_errors(path)) {
    result->st_mode = S_IFREG | 0600;
  } else {
    return -ENOENT;
  }
  return 0;
}

int list(const char*, void* buffer, fuse_fill_dir_t fill, off_t, fuse_file_info*,
         fuse_readdir_flags) {
  for (const char* name : {".", "..", "disk", "errors"}) {
    fill(buffer, name, nullptr, 0, fuse_fill_dir_flags{});
  }
  return 0;
}

int open_file(const char* path, fuse_file_info* info) {
  if (!is_disk(path) && !is_errors(path)) return -ENOENT;
  info->direct_io = 1;  // every read is asked for here
  return 0;
}

int truncate_file(const char* path, off_t size, fuse_file_info*) {
  if (!is_errors(path) || size != 0) return -EPERM;
  errors.clear();
  return 0;
}

bool fails(std::uint64_t offset, std::uint64_t length) {
  for (const Range& range : errors) {
    if (offset < range.offset + range.length && range.offset < offset + length) return true;
  }
  return false;
}

int read_file(const char* path, char* buffer, std::size_t size, off_t offset, fuse_file_info*) {
  if (!is_disk(path)) return 0;
  if (fails(static_cast<std::uint64_t>(offset), size)) return -EIO;
  const ssize_t got = ::pread(image, buffer, size, offset);
  return got < 0 ? -errno : static_cast<int>(got);
}

int write_file(const char* path, const char* data, std::size_t size, off_t offset,
               fuse_file_info*) {
  if (is_errors(path)) {
    Range range{};
    if (std::sscanf(std::string(data, size).c_str(), "%lu %lu", &range.offset, &range.length) !=
        2) {
      return -EINVAL;
    }
    errors.push_back(range);
    return static_cast<int>(size);
  }
  const ssize_t written = ::pwrite(image, data, size, offset);
  if (written < 0) return -errno;
  const Range range{static_cast<std::uint64_t>(offset), static_cast<std::uint64_t>(written)};
  const int logged = append(range, data);
  return logged != 0 ? logged : static_cast<int>(written);
}

int flush_disk(const char* path, int, fuse_file_info*) {
  return is_disk(path) ? append({~0ull, ~0ull}, nullptr) : 0;
}

int open_or_end(const char* path, int flags) {
  const int fd = ::open(path, flags | O_CLOEXEC, 0600);
  if (fd >= 0) return fd;
  std::fprintf(stderr, "block_log: open %s: %s\n", path, std::strerror(errno));
  std::exit(1);
}

}  // namespace

int main(int count, char** words) {
  if (count != 4) {
    std::fprintf(stderr, "usage: block_log IMAGE LOG MOUNTPOINT\n");
    return 2;
  }
  image = open_or_end(words[1], O_RDWR);
  journal = open_or_end(words[2], O_WRONLY | O_CREAT | O_APPEND);
  fuse_operations operations = {};
  operations.getattr = get_attributes;
  operations.readdir = list;
  operations.open = open_file;
  operations.truncate = truncate_file;
  operations.read = read_file;
  operations.write = write_file;
  operations.fsync = flush_disk;
  char program[] = "block_log";
  char alone[] = "-s";
  char stay[] = "-f";
  char* arguments[] = {program, alone, stay, words[3], nullptr};
  return fuse_main(4, arguments, &operations, nullptr);
}
