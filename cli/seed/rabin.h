// RabinChunker: cuts a stream where the original imsy cuts it, byte for byte.
//
// A cut depends on the last 64 bytes only: their Rabin fingerprint, the remainder of the bytes read
// as a polynomial over GF(2) divided by kPolynomial, has its low 20 bits zero. Chunks have 64 KiB
// to 1 MiB; the last one of a stream may be shorter.
// Threads: a chunker belongs to one thread; the free functions to any.
// Described in docs/format/seed.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/stream.h"

namespace imsy::cli::seed {

inline constexpr std::uint64_t kPolynomial = 0x2652bce9495479;  // of degree 53
inline constexpr std::size_t kChunkSizeMin = 64 << 10;
inline constexpr std::size_t kChunkSizeMax = 1 << 20;
inline constexpr std::size_t kWindowSize = 64;
inline constexpr std::uint64_t kCutMask = (1 << 20) - 1;

// The length of the chunk that `data` begins with. `data` holds at least kChunkSizeMax bytes, or
// all that is left of the stream. 0 only for empty data.
std::size_t first_chunk_size(ByteSpan data);

class RabinChunker {
 public:
  // Reads from `in`, which outlives this. Keeps kBufferSize bytes, however long the stream.
  explicit RabinChunker(ByteReader& in);

  // The next chunk, valid until the next call; empty at the end of the stream. Fails as `in` fails.
  Result<ByteSpan> next();

 private:
  static constexpr std::size_t kBufferSize = 4 * kChunkSizeMax;

  Status fill();

  ByteReader& in_;
  Bytes buffer_;
  std::size_t begin_ = 0;  // buffer_[begin_, end_) is read but not yet cut
  std::size_t end_ = 0;
  bool at_end_ = false;
};

}  // namespace imsy::cli::seed
