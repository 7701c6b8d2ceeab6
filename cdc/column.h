// Columns: how the sections of a CDC manifest hold numbers and texts. Internal to cdc.
//
// A section's columns are one byte string: each column preceded by its length in bytes. Numbers are
// LEB128 varints in their shortest form, texts end with NUL. docs/format/cdc-manifest.md.
// Threads: plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/bytes.h"
#include "common/result.h"

namespace imsy::cdc {

void put_varint(Bytes& to, std::uint64_t value);
// Without a NUL in `text`.
void put_text(Bytes& to, std::string_view text);
// Appends `column` to the section's columns.
void put_column(Bytes& to, const Bytes& column);

// Signed numbers near zero as small unsigned ones: 0, -1, 1, -2 ... become 0, 1, 2, 3 ...
inline std::uint64_t zigzag(std::int64_t value) {
  return (static_cast<std::uint64_t>(value) << 1) ^ static_cast<std::uint64_t>(value >> 63);
}
inline std::int64_t unzigzag(std::uint64_t value) {
  return static_cast<std::int64_t>((value >> 1) ^ (~(value & 1) + 1));
}

// Reads one column. A reading function that cannot deliver returns zero or nothing, and so do all
// after it: read what you expect, then ask finish() once.
class Column {
 public:
  Column(std::string name, ByteSpan bytes) : name_(std::move(name)), rest_(bytes) {}

  std::uint64_t varint();
  // Fails above 2^32-1.
  std::uint32_t varint32();
  // Up to the next NUL. Lives as long as the bytes of the section.
  std::string_view text();
  std::string_view take(std::uint64_t size);

  std::uint64_t size() const { return rest_.size(); }
  // kCorrupt unless `count` elements of a byte or more can be left. Ask before allocating for them.
  Status expect(std::uint64_t count) const;
  // kCorrupt when something was malformed or missing, or is left over.
  Status finish() const;

 private:
  void fail();
  std::string name_;
  ByteSpan rest_;
  bool failed_ = false;
};

// Splits a section into its columns.
class ColumnReader {
 public:
  // `section` names it in errors.
  ColumnReader(std::string section, ByteSpan columns)
      : section_(std::move(section)), rest_(columns) {}
  // kCorrupt when there is none.
  Result<Column> next(std::string_view name);
  // kCorrupt when bytes are left over.
  Status finish() const;

 private:
  std::string section_;
  ByteSpan rest_;
};

}  // namespace imsy::cdc
