// Digest: a SHA-256 value, its text form, and the hasher that makes it.
//
// SHA-256 is the only algorithm of this project (design ruling); another one in an input is refused
// where the text is parsed.
// Threads: values are plain; a Hasher belongs to one thread.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/result.h"

namespace imsy {

class Digest {
 public:
  static constexpr std::size_t kSize = 32;

  Digest() = default;  // all zero; is_zero() says so
  explicit Digest(std::span<const std::byte, kSize> raw) {
    std::memcpy(bytes_.data(), raw.data(), kSize);
  }

  // Parses "sha256:" + 64 lower-case hex digits, and nothing else. kInvalid otherwise.
  static Result<Digest> parse(std::string_view text);
  // Parses 64 lower-case hex digits. kInvalid otherwise.
  static Result<Digest> parse_hex(std::string_view hex);

  std::string hex() const;        // 64 lower-case hex digits
  std::string to_string() const;  // "sha256:" + hex()
  std::span<const std::byte, kSize> bytes() const { return bytes_; }
  std::span<std::byte, kSize> mutable_bytes() { return bytes_; }
  bool is_zero() const { return *this == Digest(); }

  auto operator<=>(const Digest&) const = default;

 private:
  std::array<std::byte, kSize> bytes_{};
};

// The digest of `data`, in one call. Fast for many small inputs (no allocation).
Digest sha256(std::span<const std::byte> data);
Digest sha256(std::string_view data);

// Streaming SHA-256 (OpenSSL EVP; uses SHA-NI where the processor has it).
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void update(std::span<const std::byte> data);
  void update(std::string_view data);
  // The digest of all that was given; the hasher starts anew.
  Digest finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace imsy

template <>
struct std::hash<imsy::Digest> {
  std::size_t operator()(const imsy::Digest& d) const noexcept {
    std::size_t h;
    std::memcpy(&h, d.bytes().data(), sizeof h);
    return h;
  }
};
