// Tar archives byte by byte, for tests: right ones and wrong ones.
//
// Shares no code with oci/tar, so that a mistake there cannot hide here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "common/stream.h"

namespace imsy::oci {

// Gives out a string, at most `step` bytes per read; then fails with `failure`, if there is one.
class StringReader : public ByteReader {
 public:
  explicit StringReader(std::string text, std::size_t step = SIZE_MAX)
      : text_(std::move(text)), step_(step) {}

  Result<std::size_t> read(std::span<std::byte> buffer) override {
    const std::size_t count = std::min({buffer.size(), step_, text_.size() - given_});
    if (count == 0 && fails_) return Error(Errc::kUnavailable, "the source went away");
    std::copy_n(as_bytes(text_).begin() + static_cast<std::ptrdiff_t>(given_), count,
                buffer.begin());
    given_ += count;
    ended_ = ended_ || count == 0;
    return count;
  }
  void fail_at_end() { fails_ = true; }
  // True once a read has reported the end.
  bool ended() const { return ended_; }

 private:
  std::string text_;
  std::size_t step_;
  std::size_t given_ = 0;
  bool fails_ = false;
  bool ended_ = false;
};

namespace tar {

// `value` as octal digits with a NUL behind them, in a field of `width`.
inline std::string octal(std::uint64_t value, std::size_t width) {
  std::string text(width, '\0');
  for (std::size_t i = width - 1; i-- > 0; value /= 8) text[i] = static_cast<char>('0' + value % 8);
  return text;
}

// `value` in base-256, in a field of `width`.
inline std::string base256(std::int64_t value, std::size_t width) {
  std::string text(width, value < 0 ? '\xff' : '\0');
  for (std::size_t i = width; i-- > 0 && width - i <= 8; value >>= 8) {
    text[i] = static_cast<char>(value & 0xff);
  }
  text[0] = static_cast<char>(text[0] | '\x80');
  return text;
}

// A header block. Starts as a ustar regular file; any byte can be overwritten.
class Block {
 public:
  explicit Block(std::string_view name, char type = '0', std::uint64_t size = 0) {
    put(0, name).put(100, octal(0644, 8)).put(108, octal(0, 8)).put(116, octal(0, 8));
    put(124, octal(size, 12)).put(136, octal(0, 12)).put(156, std::string(1, type));
    put(257, std::string("ustar\0"
                         "00",
                         8))
        .put(329, octal(0, 8))
        .put(337, octal(0, 8));
  }
  Block& put(std::size_t offset, std::string_view bytes) {
    bytes_.replace(offset, bytes.size(), bytes);
    return *this;
  }
  Block& link(std::string_view target) { return put(157, target); }
  Block& gnu() { return put(257, std::string_view("ustar  \0", 8)); }
  Block& v7() { return put(257, std::string(255, '\0')); }
  // The block with its checksum, of bytes taken as signed when `sign`.
  std::string str(bool sign = false) const {
    std::string block = bytes_;
    block.replace(148, 8, "        ");
    std::int64_t sum = 0;
    for (const char c : block) {
      sum += sign ? static_cast<std::int8_t>(c) : static_cast<std::uint8_t>(c);
    }
    return block.replace(148, 8, octal(static_cast<std::uint64_t>(sum), 7) + " ");
  }

 private:
  std::string bytes_ = std::string(512, '\0');
};

inline std::string padded(std::string content) {
  content.resize((content.size() + 511) / 512 * 512, '\0');
  return content;
}
// A regular file, or another entry with content.
inline std::string entry(std::string_view name, const std::string& content, char type = '0') {
  return Block(name, type, content.size()).str() + padded(content);
}
inline std::string record(std::string_view key, std::string_view value) {
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest;
  while (length != rest + std::to_string(length).size()) ++length;
  return std::to_string(length) + " " + std::string(key) + "=" + std::string(value) + "\n";
}
// A pax header with these records (or whatever the text is).
inline std::string pax(const std::string& records, char type = 'x') {
  return entry("PaxHeaders.0/x", records, type);
}
// GNU's long name ('L') or long link ('K').
inline std::string gnu_long(std::string_view text, char type = 'L') {
  const std::string content = std::string(text) + '\0';
  return Block("././@LongLink", type, content.size()).gnu().str() + padded(content);
}
inline std::string end() {
  return std::string(1024, '\0');
}

}  // namespace tar
}  // namespace imsy::oci
