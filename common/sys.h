// sys: the system calls by which we use a disk, one function for each, so that tests can make any
// of them fail.
//
// Each does what its manual page says, -1 (or a null pointer) and errno included; nothing is tried
// again here. What may fail on a disk calls these instead of the C library's.
//
// Threads: all from any thread. All may wait for the disk.
#pragma once

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include <cstddef>

namespace imsy::sys {

int openat(int dir, const char* name, int flags, mode_t mode);
int openat2(int dir, const char* name, const open_how& how);
ssize_t read(int fd, void* buffer, std::size_t size);
ssize_t write(int fd, const void* data, std::size_t size);
ssize_t pread(int fd, void* buffer, std::size_t size, off_t offset);
ssize_t pwrite(int fd, const void* data, std::size_t size, off_t offset);
off_t lseek(int fd, off_t offset, int whence);
int ftruncate(int fd, off_t size);
int fallocate(int fd, int mode, off_t offset, off_t size);
int fchmod(int fd, mode_t mode);
int fstat(int fd, struct stat* result);
int fstatat(int dir, const char* name, struct stat* result, int flags);
int fstatvfs(int fd, struct statvfs* result);
int faccessat(int dir, const char* name, int mode, int flags);
int flock(int fd, int operation);
int mkdirat(int dir, const char* name, mode_t mode);
int renameat(int from_dir, const char* from, int to_dir, const char* to);
int linkat(int from_dir, const char* from, int to_dir, const char* to, int flags);
int unlinkat(int dir, const char* name, int flags);
int fsync(int fd);
int fdatasync(int fd);
int syncfs(int fd);
DIR* fdopendir(int fd);
dirent* readdir(DIR* dir);

// Asked before each call, with its name: an errno makes it fail with that, 0 lets it go on. Called
// from any thread. For tests only: null, as it is at the start, asks nobody.
using Fault = int (*)(const char* call);
void set_fault(Fault fault);

}  // namespace imsy::sys
