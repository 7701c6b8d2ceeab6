// MeasuredReader: a stream, and the digest and number of the bytes that it has given out.
//
// Threads: one at a time. read() waits as its input does.
#pragma once

#include <cstdint>

#include "common/digest.h"
#include "common/stream.h"

namespace imsy::converter {

class MeasuredReader : public ByteReader {
 public:
  // `input` must outlive the reader.
  explicit MeasuredReader(ByteReader& input) : input_(input) {}

  Result<std::size_t> read(std::span<std::byte> buffer) override {
    IMSY_TRY_ASSIGN(const std::size_t got, input_.read(buffer));
    hasher_.update(buffer.first(got));
    size_ += got;
    return got;
  }

  std::uint64_t size() const { return size_; }
  // Once, after the last read().
  Digest finish() { return hasher_.finish(); }

 private:
  ByteReader& input_;
  Hasher hasher_;
  std::uint64_t size_ = 0;
};

}  // namespace imsy::converter
