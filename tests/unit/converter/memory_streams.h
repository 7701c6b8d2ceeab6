// Streams over memory, and a way to make tar archives, for the converter's tests.
#pragma once

#include <algorithm>
#include <string>

#include "common/stream.h"
#include "oci/tar/tar.h"

namespace imsy::converter::testing_support {

class MemoryReader : public ByteReader {
 public:
  explicit MemoryReader(ByteSpan data) : rest_(data) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    const std::size_t n = std::min(buffer.size(), rest_.size());
    std::copy_n(rest_.begin(), n, buffer.begin());
    rest_ = rest_.subspan(n);
    return n;
  }

 private:
  ByteSpan rest_;
};

class MemoryWriter : public ByteWriter {
 public:
  Status write(ByteSpan data) override {
    append(bytes, data);
    return {};
  }
  Bytes bytes;
};

// Bytes that do not compress and are the same for the same seed.
inline Bytes noise(std::size_t size, std::uint64_t seed) {
  Bytes bytes(size);
  std::uint64_t state = seed * 2 + 1;
  for (auto& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<std::byte>(state >> 56);
  }
  return bytes;
}

inline Bytes text(std::string_view from) {
  const auto bytes = as_bytes(from);
  return Bytes(bytes.begin(), bytes.end());
}

class TarBuilder {
 public:
  TarBuilder& add(oci::tar::Header header, ByteSpan content = {}) {
    header.size = content.size();
    append(bytes_, as_bytes(oci::tar::encode_header(header).value()));
    append(bytes_, content);
    bytes_.resize(bytes_.size() + oci::tar::padding(content.size()));
    return *this;
  }
  Bytes finish() {
    bytes_.resize(bytes_.size() + oci::tar::kEndSize);
    return bytes_;
  }

 private:
  Bytes bytes_;
};

inline oci::tar::Header header(oci::tar::Type type, std::string name, std::string link = "") {
  oci::tar::Header made;
  made.type = type;
  made.name = std::move(name);
  made.link = std::move(link);
  made.mode = type == oci::tar::Type::kDirectory ? 0755 : 0644;
  made.mtime_s = 1'700'000'000;
  return made;
}

}  // namespace imsy::converter::testing_support
