#include "common/sys.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace imsy::sys {
namespace {

std::atomic<Fault> asked{nullptr};

// Whether the call is to fail; errno says how.
bool fails(const char* call) {
  const Fault fault = asked.load(std::memory_order_acquire);
  if (fault == nullptr) [[likely]]
    return false;
  const int error = fault(call);
  if (error != 0) errno = error;
  return error != 0;
}

}  // namespace

void set_fault(Fault fault) {
  asked.store(fault, std::memory_order_release);
}

int openat(int dir, const char* name, int flags, mode_t mode) {
  return fails("openat") ? -1 : ::openat(dir, name, flags, mode);
}

int openat2(int dir, const char* name, const open_how& how) {
  return fails("openat2") ? -1
                          : static_cast<int>(::syscall(SYS_openat2, dir, name, &how, sizeof how));
}

ssize_t read(int fd, void* buffer, std::size_t size) {
  return fails("read") ? -1 : ::read(fd, buffer, size);
}

ssize_t write(int fd, const void* data, std::size_t size) {
  return fails("write") ? -1 : ::write(fd, data, size);
}

ssize_t pread(int fd, void* buffer, std::size_t size, off_t offset) {
  return fails("pread") ? -1 : ::pread(fd, buffer, size, offset);
}

ssize_t pwrite(int fd, const void* data, std::size_t size, off_t offset) {
  return fails("pwrite") ? -1 : ::pwrite(fd, data, size, offset);
}

off_t lseek(int fd, off_t offset, int whence) {
  return fails("lseek") ? -1 : ::lseek(fd, offset, whence);
}

int ftruncate(int fd, off_t size) {
  return fails("ftruncate") ? -1 : ::ftruncate(fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
  return fails("fallocate") ? -1 : ::fallocate(fd, mode, offset, size);
}

int fchmod(int fd, mode_t mode) {
  return fails("fchmod") ? -1 : ::fchmod(fd, mode);
}

int fstat(int fd, struct stat* result) {
  return fails("fstat") ? -1 : ::fstat(fd, result);
}

int fstatat(int dir, const char* name, struct stat* result, int flags) {
  return fails("fstatat") ? -1 : ::fstatat(dir, name, result, flags);
}

int fstatvfs(int fd, struct statvfs* result) {
  return fails("fstatvfs") ? -1 : ::fstatvfs(fd, result);
}

int faccessat(int dir, const char* name, int mode, int flags) {
  return fails("faccessat") ? -1 : ::faccessat(dir, name, mode, flags);
}

int flock(int fd, int operation) {
  return fails("flock") ? -1 : ::flock(fd, operation);
}

int mkdirat(int dir, const char* name, mode_t mode) {
  return fails("mkdirat") ? -1 : ::mkdirat(dir, name, mode);
}

int renameat(int from_dir, const char* from, int to_dir, const char* to) {
  return fails("renameat") ? -1 : ::renameat(from_dir, from, to_dir, to);
}

int linkat(int from_dir, const char* from, int to_dir, const char* to, int flags) {
  return fails("linkat") ? -1 : ::linkat(from_dir, from, to_dir, to, flags);
}

int unlinkat(int dir, const char* name, int flags) {
  return fails("unlinkat") ? -1 : ::unlinkat(dir, name, flags);
}

int fsync(int fd) {
  return fails("fsync") ? -1 : ::fsync(fd);
}

int fdatasync(int fd) {
  return fails("fdatasync") ? -1 : ::fdatasync(fd);
}

int syncfs(int fd) {
  return fails("syncfs") ? -1 : ::syncfs(fd);
}

DIR* fdopendir(int fd) {
  return fails("fdopendir") ? nullptr : ::fdopendir(fd);
}

dirent* readdir(DIR* dir) {
  return fails("readdir") ? nullptr : ::readdir(dir);
}

}  // namespace imsy::sys
