// Byte buffers and little-endian numbers.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace imsy {

using Bytes = std::vector<std::byte>;
using ByteSpan = std::span<const std::byte>;

inline ByteSpan as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}
inline std::string_view as_text(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
inline void append(Bytes& to, ByteSpan more) {
  to.insert(to.end(), more.begin(), more.end());
}

// Unaligned little-endian access. The caller has checked that the bytes are there.
template <typename T>
T load_le(const std::byte* from) {
  static_assert(std::endian::native == std::endian::little, "a big-endian port must swap here");
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename T>
void store_le(std::byte* to, T value) {
  static_assert(std::endian::native == std::endian::little, "a big-endian port must swap here");
  std::memcpy(to, &value, sizeof value);
}
template <typename T>
void append_le(Bytes& to, T value) {
  std::byte raw[sizeof value];
  store_le(raw, value);
  to.insert(to.end(), raw, raw + sizeof value);
}

}  // namespace imsy
