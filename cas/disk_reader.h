// DiskReader: reads a file as it is on the disk, and leaves the page cache as it is.
//
// With O_DIRECT where the file system can; else the file's pages are dropped first, as far as the
// kernel will. Internal to cas.
// Threads: belongs to one thread. Waits for the disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "common/bytes.h"
#include "common/io.h"
#include "common/result.h"

namespace imsy::cas {

class DiskReader {
 public:
  // `file` is open for reading.
  explicit DiskReader(UniqueFd file);

  // `length` bytes at `offset`, valid until the next call. kCorrupt when the file ends before.
  Result<ByteSpan> read(std::uint64_t offset, std::size_t length);

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  void use_cache();
  Status reserve(std::size_t size);

  const UniqueFd file_;
  bool direct_ = false;
  std::unique_ptr<std::byte, Free> buffer_;  // aligned as O_DIRECT wants it
  std::size_t capacity_ = 0;
};

}  // namespace imsy::cas
