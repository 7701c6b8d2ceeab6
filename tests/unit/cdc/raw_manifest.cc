#include "tests/unit/cdc/raw_manifest.h"

#include <zstd.h>

#include <cstdio>
#include <cstdlib>

#include "cdc/column.h"

namespace imsy::test {
namespace {

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "RawManifest: %s\n", what);
  std::abort();
}

Bytes bytes_of(ByteSpan span) {
  return {span.begin(), span.end()};
}

std::uint64_t take_number(ByteSpan& rest) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; !rest.empty(); shift += 7) {
    const auto byte = std::to_integer<std::uint64_t>(rest.front());
    rest = rest.subspan(1);
    value |= (byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  fail("a number is cut short");
}

Bytes compress(const Bytes& raw) {
  Bytes packed(ZSTD_compressBound(raw.size()));
  const std::size_t size = ZSTD_compress(packed.data(), packed.size(), raw.data(), raw.size(), 1);
  if (ZSTD_isError(size) != 0) fail("zstd");
  packed.resize(size);
  return packed;
}

// The section as stored; `raw_size` gets the size of its columns.
Bytes pack(const RawSection& section, std::uint64_t& raw_size) {
  Bytes raw;
  for (const Bytes& column : section.columns) cdc::put_column(raw, column);
  append(raw, section.tail);
  raw_size = raw.size();
  if (section.stored) return *section.stored;
  const Bytes packed = compress(raw);
  Bytes stored;
  append_le<std::uint64_t>(stored, packed.size());
  append(stored, packed);
  append(stored, section.plain);
  return stored;
}

RawSection unpack(ByteSpan stored, std::uint64_t raw_size) {
  RawSection section;
  const auto packed = load_le<std::uint64_t>(stored.data());
  Bytes raw(raw_size);
  if (ZSTD_decompress(raw.data(), raw.size(), &stored[8], packed) != raw_size) fail("zstd");
  section.plain = bytes_of(stored.subspan(8 + packed));
  for (ByteSpan rest = raw; !rest.empty();) {
    const std::uint64_t size = take_number(rest);
    if (size > rest.size()) fail("a column is cut short");
    section.columns.push_back(bytes_of(rest.first(size)));
    rest = rest.subspan(size);
  }
  return section;
}

}  // namespace

std::vector<std::uint64_t> numbers_of(const Bytes& column) {
  std::vector<std::uint64_t> numbers;
  for (ByteSpan rest = column; !rest.empty();) numbers.push_back(take_number(rest));
  return numbers;
}

Bytes column_of(const std::vector<std::uint64_t>& numbers) {
  Bytes column;
  for (const std::uint64_t number : numbers) cdc::put_varint(column, number);
  return column;
}

void RawSection::numbers(std::size_t column,
                         const std::function<void(std::vector<std::uint64_t>&)>& change) {
  auto list = numbers_of(columns.at(column));
  change(list);
  columns[column] = column_of(list);
}

void RawSection::texts(std::size_t column,
                       const std::function<void(std::vector<std::string>&)>& change) {
  std::vector<std::string> list;
  for (std::string_view rest = as_text(columns.at(column)); !rest.empty();) {
    list.emplace_back(rest.substr(0, rest.find('\0')));
    rest.remove_prefix(list.back().size() + 1);
  }
  change(list);
  columns[column].clear();
  for (const std::string& text : list) cdc::put_text(columns[column], text);
}

RawSection& RawManifest::section(std::uint32_t kind) {
  for (RawSection& section : sections) {
    if (section.kind == kind) return section;
  }
  fail("there is no such section");
}

RawManifest take_apart(ByteSpan manifest) {
  RawManifest raw;
  raw.magic = as_text(manifest.first(8));
  raw.version = load_le<std::uint32_t>(&manifest[8]);
  raw.algorithm = load_le<std::uint32_t>(&manifest[16]);
  raw.size_min = load_le<std::uint32_t>(&manifest[20]);
  raw.size_avg = load_le<std::uint32_t>(&manifest[24]);
  raw.size_max = load_le<std::uint32_t>(&manifest[28]);
  raw.content_size = load_le<std::uint64_t>(&manifest[32]);
  const auto count = load_le<std::uint32_t>(&manifest[12]);
  for (std::uint32_t i = 0; i < count; ++i) {
    const ByteSpan row = manifest.subspan(40 + 64 * i, 64);
    RawSection section =
        unpack(manifest.subspan(load_le<std::uint64_t>(&row[8]), load_le<std::uint64_t>(&row[16])),
               load_le<std::uint64_t>(&row[24]));
    section.kind = load_le<std::uint32_t>(&row[0]);
    section.flags = load_le<std::uint32_t>(&row[4]);
    raw.sections.push_back(std::move(section));
  }
  return raw;
}

PutTogether put_together(const RawManifest& raw, const cdc::Anchor& anchor) {
  const std::size_t header_size = 40 + 64 * raw.sections.size() + raw.header_tail.size();
  std::vector<RawRow> rows;
  Bytes body;
  for (const RawSection& section : raw.sections) {
    RawRow row;
    row.kind = section.kind;
    row.flags = section.flags;
    row.offset = header_size + body.size();
    const Bytes stored = pack(section, row.raw_size);
    row.stored_size = stored.size();
    row.digest = sha256(stored);
    rows.push_back(row);
    append(body, stored);
  }
  if (raw.change_table) raw.change_table(rows);

  PutTogether result;
  Bytes& bytes = result.bytes;
  append(bytes, as_bytes(raw.magic));
  append_le(bytes, raw.version);
  append_le(bytes, raw.section_count.value_or(static_cast<std::uint32_t>(raw.sections.size())));
  for (const std::uint32_t field : {raw.algorithm, raw.size_min, raw.size_avg, raw.size_max}) {
    append_le(bytes, field);
  }
  append_le(bytes, raw.content_size);
  for (const RawRow& row : rows) {
    append_le(bytes, row.kind);
    append_le(bytes, row.flags);
    append_le(bytes, row.offset);
    append_le(bytes, row.stored_size);
    append_le(bytes, row.raw_size);
    append(bytes, row.digest.bytes());
  }
  append(bytes, raw.header_tail);
  result.anchor = anchor;
  result.anchor.manifest = sha256(bytes);
  result.anchor.header_size = bytes.size();
  append(bytes, body);
  append(bytes, raw.tail);
  result.anchor.manifest_size = bytes.size();
  result.anchor.data_layers.at(anchor.manifest_layer).size = anchor.manifest_offset + bytes.size();
  return result;
}

}  // namespace imsy::test
