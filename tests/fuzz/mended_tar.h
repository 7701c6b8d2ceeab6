// Tar archives whose checksums are right: no fuzzer finds those, and without them nothing behind
// the checksum would be tried.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "common/bytes.h"

namespace imsy {

// The same with a right checksum in every block that is not all zeros.
inline Bytes mended_tar(ByteSpan data) {
  constexpr std::size_t kBlock = 512;
  constexpr std::size_t kChecksum = 148;
  Bytes bytes(data.begin(), data.end());
  for (std::size_t at = 0; at + kBlock <= bytes.size(); at += kBlock) {
    const auto block = std::span(bytes).subspan(at, kBlock);
    if (std::count(block.begin(), block.end(), std::byte{0}) == kBlock) continue;
    std::fill_n(block.begin() + kChecksum, 8, std::byte{' '});
    unsigned sum = 0;
    for (const std::byte b : block) sum += std::to_integer<unsigned>(b);
    char text[8];
    std::snprintf(text, sizeof text, "%06o", sum);
    std::memcpy(block.data() + kChecksum, text, sizeof text);
  }
  return bytes;
}

}  // namespace imsy
