// Frames: decoding gives exactly the promised number of bytes, or kCorrupt; a decoder that has seen
// any bytes still decodes a good frame.
//
// Input: the promised size (three bytes), then the frame.

#include <cstdint>
#include <cstdlib>

#include "cdc/frame.h"

namespace {

using namespace imsy;

const Bytes& good_raw() {
  static const Bytes raw = [] {
    Bytes bytes;
    for (int i = 0; i < 200; ++i) append(bytes, as_bytes("line " + std::to_string(i * i) + "\n"));
    return bytes;
  }();
  return raw;
}

const Bytes& good_frame() {
  static const Bytes frame = cdc::FrameEncoder(3).encode(good_raw());
  return frame;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const ByteSpan input = std::as_bytes(std::span(data, size));
  const std::uint32_t raw_size = data[0] | data[1] << 8 | data[2] << 16;
  static cdc::FrameDecoder decoder;
  const auto raw = decoder.decode(input.subspan(3), raw_size);
  if (raw ? raw->size() != raw_size : raw.error().code() != Errc::kCorrupt) __builtin_trap();
  const auto good = decoder.decode(good_frame(), static_cast<std::uint32_t>(good_raw().size()));
  if (!good || *good != good_raw()) __builtin_trap();
  return 0;
}

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t size_max);

// An empty input becomes the good frame.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t size_max, unsigned /*seed*/) {
  if (size < 4 && good_frame().size() + 3 <= size_max) {
    for (unsigned i = 0; i < 3; ++i) {
      data[i] = static_cast<std::uint8_t>(good_raw().size() >> (8 * i));
    }
    for (std::size_t i = 0; i < good_frame().size(); ++i) {
      data[3 + i] = std::to_integer<std::uint8_t>(good_frame()[i]);
    }
    return good_frame().size() + 3;
  }
  return LLVMFuzzerMutate(data, size, size_max);
}
