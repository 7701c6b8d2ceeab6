// BufferedInput: a ByteReader with a buffer, so that headers of 512 bytes cost no call each.
//
// Internal to oci/tar. Large reads go straight into the caller's memory once the buffer is empty,
// so content is copied at most once.
// Threads: one. read(), read_full(), skip() and drain() may wait for the source.
#pragma once

#include <cstdint>
#include <span>

#include "common/stream.h"

namespace imsy::oci::tar {

class BufferedInput {
 public:
  explicit BufferedInput(ByteReader& source) : source_(source) {}

  // Bytes given out so far.
  std::uint64_t offset() const { return offset_; }

  // Fills the front of `buffer` and returns how many bytes; 0 only at the end.
  Result<std::size_t> read(std::span<std::byte> buffer);
  // Fills all of `buffer` unless the input ends before; returns how many bytes.
  Result<std::size_t> read_full(std::span<std::byte> buffer);
  // Leaves out `count` bytes, fewer if the input ends before; returns how many.
  Result<std::uint64_t> skip(std::uint64_t count);
  // Reads to the end of the input.
  Status drain();

 private:
  static constexpr std::size_t kBufferSize = 128u << 10;

  // Makes sure that the buffer holds something; false at the end of the input.
  Result<bool> fill();

  ByteReader& source_;
  Bytes buffer_ = Bytes(kBufferSize);
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::uint64_t offset_ = 0;
};

}  // namespace imsy::oci::tar
