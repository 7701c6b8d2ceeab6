#include "cdc/column.h"

#include <limits>

namespace imsy::cdc {
namespace {

constexpr unsigned kVarintBytesMax = 10;  // 64 bits, 7 per byte

// Takes a varint off the front of `rest`. False when it is cut short, larger than 64 bits, or not
// in its shortest form (the same value must always be the same bytes).
bool take_varint(ByteSpan& rest, std::uint64_t& value) {
  value = 0;
  for (unsigned i = 0; i < rest.size() && i < kVarintBytesMax; ++i) {
    const auto byte = std::to_integer<std::uint64_t>(rest[i]);
    if (i == kVarintBytesMax - 1 && byte > 1) return false;
    value |= (byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0) {
      if (byte == 0 && i > 0) return false;
      rest = rest.subspan(i + 1);
      return true;
    }
  }
  return false;
}

}  // namespace

void put_varint(Bytes& to, std::uint64_t value) {
  while (value >= 0x80) {
    to.push_back(static_cast<std::byte>(value | 0x80));
    value >>= 7;
  }
  to.push_back(static_cast<std::byte>(value));
}

void put_text(Bytes& to, std::string_view text) {
  append(to, as_bytes(text));
  to.push_back(std::byte{0});
}

void put_column(Bytes& to, const Bytes& column) {
  put_varint(to, column.size());
  append(to, column);
}

void Column::fail() {
  failed_ = true;
  rest_ = {};
}

std::uint64_t Column::varint() {
  std::uint64_t value = 0;
  if (take_varint(rest_, value)) return value;
  fail();
  return 0;
}

std::uint32_t Column::varint32() {
  const std::uint64_t value = varint();
  if (value <= std::numeric_limits<std::uint32_t>::max()) return static_cast<std::uint32_t>(value);
  fail();
  return 0;
}

std::string_view Column::text() {
  const std::string_view all = as_text(rest_);
  const std::size_t end = all.find('\0');
  if (end == std::string_view::npos) {
    fail();
    return {};
  }
  rest_ = rest_.subspan(end + 1);
  return all.substr(0, end);
}

std::string_view Column::take(std::uint64_t size) {
  if (size > rest_.size()) {
    fail();
    return {};
  }
  const std::string_view taken = as_text(rest_).substr(0, size);
  rest_ = rest_.subspan(size);
  return taken;
}

Status Column::expect(std::uint64_t count) const {
  if (count <= rest_.size()) return {};
  return Error(Errc::kCorrupt, name_ + ": " + std::to_string(rest_.size()) + " bytes cannot hold " +
                                   std::to_string(count) + " elements");
}

Status Column::finish() const {
  if (failed_) return Error(Errc::kCorrupt, name_ + ": malformed or too short");
  if (!rest_.empty()) {
    return Error(Errc::kCorrupt,
                 name_ + ": " + std::to_string(rest_.size()) + " bytes are left over");
  }
  return {};
}

Result<Column> ColumnReader::next(std::string_view name) {
  std::string full_name = section_ + ", column " + std::string(name);
  std::uint64_t size = 0;
  if (!take_varint(rest_, size) || size > rest_.size()) {
    return Error(Errc::kCorrupt, full_name + ": missing or cut short");
  }
  const ByteSpan bytes = rest_.first(size);
  rest_ = rest_.subspan(size);
  return Column(std::move(full_name), bytes);
}

Status ColumnReader::finish() const {
  if (rest_.empty()) return {};
  return Error(Errc::kCorrupt,
               section_ + ": " + std::to_string(rest_.size()) + " bytes behind the last column");
}

}  // namespace imsy::cdc
