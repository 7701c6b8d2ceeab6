// SysFaults: makes the system calls fail by which the store and SQLite use the disk, one at a time.
//
// A fault is chosen by its number: of all calls since begin() that can end with this errno, the
// n-th fails, or all from the n-th on. The calls are those of common/sys.h and what SQLite's unix
// VFS calls for them.
//
// Threads: begin() and end() by one thread; the calls are counted from any. One for the process.
#pragma once

#include <cstdint>
#include <string>

namespace imsy::test {

struct SysFault {
  enum class Lasts { kOnce, kForEver };
  int error = 0;         // errno
  std::uint64_t at = 0;  // which call, from 1; 0: none, they are only counted
  Lasts lasts = Lasts::kOnce;
};

class SysFaults {
 public:
  // Call before the first database of the process is opened.
  static void install();
  static void begin(const SysFault& fault);
  struct Seen {
    std::uint64_t calls = 0;  // that could have failed this way
    std::string failed;       // name of the first that did; "" none
  };
  // From now on nothing fails.
  static Seen end();
};

}  // namespace imsy::test
