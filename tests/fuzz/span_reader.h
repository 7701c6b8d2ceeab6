// A ByteReader over bytes in memory.
#pragma once

#include <algorithm>

#include "common/stream.h"

namespace imsy {

// Gives at most `step` bytes per read. The bytes must outlive the reader.
class SpanReader : public ByteReader {
 public:
  explicit SpanReader(ByteSpan data, std::size_t step = SIZE_MAX) : data_(data), step_(step) {}

  Result<std::size_t> read(std::span<std::byte> buffer) override {
    const std::size_t count = std::min({buffer.size(), data_.size(), step_});
    std::copy_n(data_.begin(), count, buffer.begin());
    data_ = data_.subspan(count);
    return count;
  }

 private:
  ByteSpan data_;
  std::size_t step_;
};

}  // namespace imsy
