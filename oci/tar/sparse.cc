#include "oci/tar/sparse.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>

namespace imsy::oci::tar {
namespace {

constexpr std::size_t kEntrySize = 24;  // two number fields of 12
constexpr std::size_t kEntriesInBlock = kBlockSize / kEntrySize;

Error malformed() {
  return Error(Errc::kCorrupt, "its sparse map is malformed");
}
Error too_long(std::uint64_t limit) {
  return Error(Errc::kInvalid,
               "its sparse map is longer than the limit of " + std::to_string(limit) + " bytes");
}

// Appends the entries of one old GNU area: pairs of number fields up to the first empty one, then
// a flag byte that says whether another block follows. False: malformed.
bool append_entries(std::string_view area, std::size_t entries, SparseMap& map) {
  for (std::size_t i = 0; i < entries; ++i) {
    const auto entry = area.substr(i * kEntrySize, kEntrySize);
    if (entry[0] == '\0') break;
    const auto offset = parse_number(entry.substr(0, 12));
    const auto length = parse_number(entry.substr(12));
    if (!offset || !length) return false;
    map.push_back({*offset, *length});
  }
  return true;
}

// Takes the text up to `end` off the front of `text`; all of it when there is no `end`.
std::string_view take_until(std::string_view& text, char end) {
  const auto at = text.find(end);
  const auto token = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return token;
}

// `count` pairs of decimal numbers, each number ended by `end`. Reserves nothing by `count`, which
// nobody has checked.
Result<SparseMap> parse_pairs(std::string_view text, char end, std::int64_t count) {
  SparseMap map;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto offset = parse_decimal(take_until(text, end));
    const auto length = parse_decimal(take_until(text, end));
    if (!offset || !length) return malformed();
    map.push_back({*offset, *length});
  }
  return map;
}

// A number of entries; nothing when malformed, negative, or so large that doubling it overflows.
std::optional<std::int64_t> parse_count(std::string_view text) {
  const auto count = parse_decimal(text);
  if (!count || *count < 0 || *count > std::numeric_limits<std::int64_t>::max() / 2) {
    return std::nullopt;
  }
  return count;
}

}  // namespace

Result<SparseMap> read_old_gnu_map(std::string_view header, const BlockSource& next_block,
                                   std::uint64_t limit) {
  SparseMap map;
  std::string_view area = field(header, kGnuSparse);
  std::uint64_t seen = area.size();
  for (std::size_t entries = area.size() / kEntrySize;; entries = kEntriesInBlock) {
    if (seen >= limit) return too_long(limit);
    if (!append_entries(area, entries, map)) return malformed();
    if (area[entries * kEntrySize] == '\0') return map;
    IMSY_TRY_ASSIGN(area, next_block());
    seen += area.size();
  }
}

Result<SparseMap> read_leading_map(const BlockSource& next_block, std::uint64_t limit) {
  std::string text;
  std::int64_t lines = 0;
  const auto read_lines = [&](std::int64_t wanted) -> Status {
    while (lines < wanted) {
      if (text.size() + kBlockSize > limit) return too_long(limit);
      IMSY_TRY_ASSIGN(const std::string_view block, next_block());
      text += block;
      lines += std::count(block.begin(), block.end(), '\n');
    }
    return {};
  };
  IMSY_TRY(read_lines(1));
  const auto count = parse_count(std::string_view(text).substr(0, text.find('\n')));
  if (!count) return malformed();
  // The line of the count is among `lines`, hence "+ 1", which cannot overflow after parse_count.
  IMSY_TRY(read_lines(2 * *count + 1));
  std::string_view rest = text;
  take_until(rest, '\n');
  return parse_pairs(rest, '\n', *count);
}

Result<SparseMap> read_record_map(const Records& records) {
  const auto value = [&](std::string_view key) -> std::string_view {
    const auto found = records.find(std::string(key));
    return found == records.end() ? std::string_view() : std::string_view(found->second);
  };
  const auto count = parse_count(value("GNU.sparse.numblocks"));
  if (!count) return malformed();
  const auto text = value(kSparseMap);
  const auto numbers = text.empty() ? 0 : std::count(text.begin(), text.end(), ',') + 1;
  if (numbers != 2 * *count) return malformed();
  return parse_pairs(text, ',', *count);
}

bool fits(const SparseMap& map, std::int64_t size) {
  std::int64_t end = 0;
  for (const Extent& extent : map) {
    if (extent.offset < end || extent.length < 0 || extent.length > size ||
        extent.offset > size - extent.length) {
      return false;
    }
    end = extent.offset + extent.length;
  }
  return size >= 0;
}

std::uint64_t stored_bytes(const SparseMap& map) {
  std::uint64_t sum = 0;
  for (const Extent& extent : map) sum += static_cast<std::uint64_t>(extent.length);
  return sum;
}

}  // namespace imsy::oci::tar
