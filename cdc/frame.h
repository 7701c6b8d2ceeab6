// Frame: the unit of compression and transfer, an independent zstd frame.
//
// Source: RFC 8878. Frames of a data layer are ordinary zstd frames one after the other, so that
// any tar+zstd reader can read the whole; each records its content size and no checksum (chunks
// are checked by SHA-256). Incompressible data is stored in raw blocks.
// Threads: an encoder or decoder belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/bytes.h"
#include "common/result.h"

namespace imsy::cdc {

// Raw bytes that a writer aims at. Small files share a frame with their neighbours; files of
// more than kSmallFile bytes are cut into frames apart from them. docs/performance.md has the
// measurements.
inline constexpr std::uint32_t kSmallFile = 256u << 10;
inline constexpr std::uint32_t kSmallFilesFrame = 1u << 20;
inline constexpr std::uint32_t kLargeFileFrame = 512u << 10;
inline constexpr std::uint32_t kFrontFrame = 128u << 10;  // of what is read at start-up
inline constexpr std::uint32_t kFrameLimit = 4u << 20;    // raw bytes, never more

class FrameEncoder {
 public:
  // `level` is zstd's, 1 to 22. Keeps a context, whose memory depends on the level (at 19: 100 MB).
  explicit FrameEncoder(int level);
  ~FrameEncoder();
  FrameEncoder(FrameEncoder&&) noexcept;
  // What decides the bytes of a frame besides its content: equal texts, equal bytes.
  static std::string describe(int level);
  // One frame holding `raw` (1 to kFrameLimit bytes). Deterministic for a zstd version and level.
  Bytes encode(ByteSpan raw);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class FrameDecoder {
 public:
  FrameDecoder();
  ~FrameDecoder();
  FrameDecoder(FrameDecoder&&) noexcept;
  // The raw bytes of the single frame `stored`. kCorrupt unless it is exactly one zstd frame that
  // states and has a content of `raw_size` bytes (1 to kFrameLimit), without a dictionary, with a
  // window of at most 8 MiB, and nothing behind it. Allocates raw_size bytes and never more.
  Result<Bytes> decode(ByteSpan stored, std::uint32_t raw_size);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The header of a zstd skippable frame (magic 0x184D2A5D): 8 bytes, behind which the payload of
// `payload_size` bytes must follow. kInvalid from 4 GiB on.
inline constexpr std::size_t kSkippableHeaderSize = 8;
Result<Bytes> skippable_header(std::uint64_t payload_size);

}  // namespace imsy::cdc
