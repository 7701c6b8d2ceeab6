#include "tests/support/sys_faults.h"

#include <sqlite3.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <mutex>
#include <string_view>
#include <type_traits>

#include "common/sys.h"

namespace imsy::test {
namespace {

std::atomic<int> error{0};  // 0: nothing is counted
std::atomic<std::uint64_t> first{0};
std::atomic<bool> for_ever{false};
std::atomic<std::uint64_t> calls{0};
std::atomic<const char*> failed{nullptr};

bool one_of(std::string_view call, std::initializer_list<std::string_view> calls_of_a_kind) {
  return std::find(calls_of_a_kind.begin(), calls_of_a_kind.end(), call) != calls_of_a_kind.end();
}

// Whether the kernel may answer `call` this way; EIO and ENOMEM may come from anywhere.
bool may_give(std::string_view call, int what) {
  const bool opens = one_of(call, {"openat", "openat2", "open", "openDirectory"});
  const bool writes = one_of(call, {"write", "pwrite", "pwrite64", "ftruncate", "fallocate",
                                    "fsync", "fdatasync", "syncfs"});
  switch (what) {
    case EMFILE: return opens;
    case ENOSPC:
      return opens || writes ||
             one_of(call, {"mkdirat", "renameat", "linkat", "unlinkat", "unlink"});
    case EINTR: return opens || writes || one_of(call, {"read", "pread", "pread64", "flock"});
    default: return true;
  }
}

// errno for this call, 0: it may go on.
int fault_of(const char* call) {
  const int what = error.load();
  if (what == 0 || !may_give(call, what)) return 0;
  const std::uint64_t number = ++calls;
  const std::uint64_t from = first.load();
  if (from == 0 || number < from || (number > from && !for_ever)) return 0;
  const char* none = nullptr;
  failed.compare_exchange_strong(none, call);
  return what;
}

// --- SQLite

template <std::size_t kSize>
struct Name {
  constexpr Name(const char (&text)[kSize]) {  // NOLINT(google-explicit-constructor)
    std::copy_n(text, kSize, value);
  }
  char value[kSize];
};

// A system call of SQLite's unix VFS, which lets them be replaced by name.
template <Name kName, typename Function>
struct Replaced;

template <Name kName, typename R, typename... Args>
struct Replaced<kName, R(Args...)> {
  static inline R (*real)(Args...) = nullptr;

  static R call(Args... args) {
    const int fault = fault_of(kName.value);
    if (fault == 0) return real(args...);
    errno = fault;
    if constexpr (std::is_pointer_v<R>) {
      return static_cast<R>(MAP_FAILED);
    } else {
      return -1;
    }
  }

  static void install(sqlite3_vfs* vfs) {
    const auto found = vfs->xGetSystemCall(vfs, kName.value);
    if (found == nullptr) return;  // this build of SQLite does without it
    real = reinterpret_cast<R (*)(Args...)>(found);
    vfs->xSetSystemCall(vfs, kName.value, reinterpret_cast<sqlite3_syscall_ptr>(&call));
  }
};

// Syncs cannot be replaced by name: the methods of each open file are.
int (*real_open)(sqlite3_vfs*, const char*, sqlite3_file*, int, int*) = nullptr;
int (*real_sync)(sqlite3_file*, int) = nullptr;
sqlite3_io_methods methods[2];  // of files with locks, and without

int sync_or_fail(sqlite3_file* file, int flags) {
  const int fault = fault_of("fsync");
  if (fault == 0) return real_sync(file, flags);
  errno = fault;
  return SQLITE_IOERR_FSYNC;
}

int open_and_replace(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out) {
  const int code = real_open(vfs, name, file, flags, out);
  if (file->pMethods == nullptr) return code;
  static std::once_flag copied[2];
  const int kind = (flags & SQLITE_OPEN_MAIN_DB) != 0 ? 0 : 1;
  std::call_once(copied[kind], [&] {
    methods[kind] = *file->pMethods;
    real_sync = methods[kind].xSync;
    methods[kind].xSync = sync_or_fail;
  });
  file->pMethods = &methods[kind];
  return code;
}

void install_in_sqlite() {
  sqlite3_vfs* vfs = sqlite3_vfs_find(nullptr);
  if (vfs == nullptr || vfs->iVersion < 3) {
    std::fprintf(stderr, "SysFaults: this SQLite's system calls cannot be replaced\n");
    std::abort();
  }
  Replaced<"open", int(const char*, int, int)>::install(vfs);
  Replaced<"openDirectory", int(const char*, int*)>::install(vfs);
  Replaced<"fstat", int(int, struct stat*)>::install(vfs);
  Replaced<"ftruncate", int(int, off_t)>::install(vfs);
  Replaced<"read", ssize_t(int, void*, std::size_t)>::install(vfs);
  Replaced<"pread", ssize_t(int, void*, std::size_t, off_t)>::install(vfs);
  Replaced<"pread64", ssize_t(int, void*, std::size_t, off_t)>::install(vfs);
  Replaced<"write", ssize_t(int, const void*, std::size_t)>::install(vfs);
  Replaced<"pwrite", ssize_t(int, const void*, std::size_t, off_t)>::install(vfs);
  Replaced<"pwrite64", ssize_t(int, const void*, std::size_t, off_t)>::install(vfs);
  Replaced<"unlink", int(const char*)>::install(vfs);
  Replaced<"mmap", void*(void*, std::size_t, int, int, int, off_t)>::install(vfs);
  real_open = vfs->xOpen;
  vfs->xOpen = open_and_replace;
}

}  // namespace

void SysFaults::install() {
  static const bool installed = [] {
    install_in_sqlite();
    sys::set_fault(fault_of);
    return true;
  }();
  static_cast<void>(installed);
}

void SysFaults::begin(const SysFault& fault) {
  calls = 0;
  failed = nullptr;
  first = fault.at;
  for_ever = fault.lasts == SysFault::Lasts::kForEver;
  error = fault.error;
}

SysFaults::Seen SysFaults::end() {
  error = 0;
  const char* name = failed;
  return {calls, name != nullptr ? name : ""};
}

}  // namespace imsy::test
