// ByteReader and ByteWriter: streams of bytes, pulled and pushed.
//
// Threads: a stream belongs to one thread at a time. read() and write() may wait for disk or
// network, as the implementation says.
#pragma once

#include "common/bytes.h"
#include "common/result.h"

namespace imsy {

class ByteReader {
 public:
  virtual ~ByteReader() = default;
  // Fills the front of `buffer` and returns how many bytes; 0 only at the end of the stream.
  virtual Result<std::size_t> read(std::span<std::byte> buffer) = 0;
};

// Fills all of `buffer`. kCorrupt when the stream ends before.
inline Status read_exactly(ByteReader& input, std::span<std::byte> buffer) {
  while (!buffer.empty()) {
    IMSY_TRY_ASSIGN(const std::size_t got, input.read(buffer));
    if (got == 0) return Error(Errc::kCorrupt, "ends too early");
    buffer = buffer.subspan(got);
  }
  return {};
}

// Reads what is left and forgets it: many streams know only at their end that they were right.
inline Status read_to_end(ByteReader& input) {
  Bytes buffer(256u << 10);
  for (;;) {
    IMSY_TRY_ASSIGN(const std::size_t got, input.read(buffer));
    if (got == 0) return {};
  }
}

class ByteWriter {
 public:
  virtual ~ByteWriter() = default;
  // Takes all of `data`, or fails.
  virtual Status write(ByteSpan data) = 0;
};

}  // namespace imsy
