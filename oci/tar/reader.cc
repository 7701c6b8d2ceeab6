// The reader: headers and extended headers into entries, content with its holes.
// The format as we read it: docs/format/tar.md.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "oci/tar/block.h"
#include "oci/tar/input.h"
#include "oci/tar/pax.h"
#include "oci/tar/sparse.h"
#include "oci/tar/tar.h"

namespace imsy::oci::tar {
namespace {

constexpr std::int64_t kU32Max = std::numeric_limits<std::uint32_t>::max();

// Extended headers that were read and belong to the next entry.
struct Pending {
  Records records;
  std::string name;
  std::string link;
  bool any = false;
};

// Types that never have content, whatever their size field says.
bool is_header_only(char type) {
  return type >= '1' && type <= '6';
}

std::optional<Type> type_of(char flag) {
  switch (flag) {
    case '0':
    case 'S': return Type::kRegular;
    case '1': return Type::kHardLink;
    case '2': return Type::kSymlink;
    case '3': return Type::kCharDevice;
    case '4': return Type::kBlockDevice;
    case '5': return Type::kDirectory;
    case '6': return Type::kFifo;
    default: return std::nullopt;
  }
}

// Puts one record of a pax header over the field it stands for. False: its value is malformed.
bool apply_record(const std::string& key, const std::string& value, RawHeader& raw) {
  const auto number = [&](std::int64_t& to) {
    const auto parsed = parse_decimal(value);
    to = parsed.value_or(0);
    return parsed.has_value();
  };
  if (key == "path") raw.name = value;
  if (key == "linkpath") raw.link = value;
  if (key == "uid") return number(raw.uid);
  if (key == "gid") return number(raw.gid);
  if (key == "size") return number(raw.size);
  if (key == "mtime" || key == "atime" || key == "ctime") {
    const auto time = parse_time(value);
    if (!time) return false;
    if (key == "mtime") {
      raw.mtime_s = time->s;
      raw.mtime_ns = time->ns;
    }
  }
  return true;
}

// Records that became fields of the header; the others are handed on.
bool is_field(std::string_view key) {
  return key == "path" || key == "linkpath" || key == "uid" || key == "gid" || key == "size" ||
         key == "mtime" || key.starts_with(kSparsePrefix);
}

enum class SparseKind { kNone, kRecords, kLeading };

std::string_view record_or_empty(const Records& records, const char* key) {
  const auto found = records.find(key);
  return found == records.end() ? std::string_view() : std::string_view(found->second);
}

// A version that nobody knows makes a plain file, as in Go.
SparseKind sparse_kind(const Records& records) {
  const auto major = record_or_empty(records, "GNU.sparse.major");
  const auto minor = record_or_empty(records, "GNU.sparse.minor");
  if (major == "0" && (minor == "0" || minor == "1")) return SparseKind::kRecords;
  if (major == "1" && minor == "0") return SparseKind::kLeading;
  if (!major.empty() || !minor.empty()) return SparseKind::kNone;
  // Versions 0.0 and 0.1 came before the version records.
  const bool has_map = !record_or_empty(records, "GNU.sparse.map").empty();
  return has_map ? SparseKind::kRecords : SparseKind::kNone;
}

}  // namespace

struct Reader::Impl {
  Impl(ByteReader& source, const ReaderLimits& limits_in) : input(source), limits(limits_in) {}

  Result<bool> advance(Header& header);
  Result<std::size_t> read_content(std::span<std::byte> buffer);

  Status finish_entry();
  Result<bool> read_header_block();
  Status end_of_archive(const Pending& pending);
  Result<std::string> read_special(const RawHeader& raw);
  Result<bool> take_extended(const RawHeader& raw, Pending& pending);
  Status start_entry(RawHeader& raw, Pending& pending, Header& header);
  Status start_content(const RawHeader& raw);
  Status start_sparse(RawHeader& raw, const Records& records);
  Result<std::optional<SparseMap>> read_sparse_map(RawHeader& raw, const Records& records);
  Status fill_numbers(const RawHeader& raw, Header& header);
  Status fill_records(Records& records, Header& header);

  std::string_view block_text() const { return as_text(block); }
  Error fail(Errc code, std::string_view what) const;
  Error fail(const Error& error) const { return fail(error.code(), error.message()); }
  Error cut_short() const { return fail(Errc::kCorrupt, "the archive ends in the middle of it"); }

  BufferedInput input;
  const ReaderLimits limits;
  std::array<std::byte, kBlockSize> block{};

  std::uint64_t entry_offset = 0;  // of the entry's own header block
  std::optional<std::uint64_t> content_offset;
  std::string entry_name;
  std::uint64_t stored_left = 0;  // content of the entry that is still in the archive
  std::uint64_t padding_left = 0;

  bool sparse = false;
  SparseMap map;
  std::size_t map_index = 0;       // the first extent that is not read through
  std::uint64_t position = 0;      // in the expanded content
  std::uint64_t sparse_size = 0;   // of the expanded content
  std::uint64_t sparse_total = 0;  // of all sparse entries so far

  bool ended = false;
  std::optional<Error> failure;
};

Error Reader::Impl::fail(Errc code, std::string_view what) const {
  const std::string name = entry_name.empty() ? "" : " " + in_quotes(entry_name);
  return Error(code, "tar entry" + name + " at byte " + std::to_string(entry_offset) + ": " +
                         std::string(what));
}

// Leaves out what the caller did not read. Padding that is missing at the end of the input is no
// error, since some writers leave it out.
Status Reader::Impl::finish_entry() {
  IMSY_TRY_ASSIGN(const std::uint64_t skipped, input.skip(stored_left));
  if (skipped < stored_left) return cut_short();
  stored_left = 0;
  IMSY_TRY(input.skip(padding_left));
  padding_left = 0;
  sparse = false;
  return {};
}

// Reads the next header into `block`; false at the end of the archive.
Result<bool> Reader::Impl::read_header_block() {
  const auto read_block = [&]() -> Result<bool> {
    IMSY_TRY_ASSIGN(const std::size_t got, input.read_full(block));
    if (got == 0) return false;
    if (got < block.size()) return cut_short();
    return true;
  };
  const auto is_zero = [&] {
    return std::all_of(block.begin(), block.end(), [](std::byte b) { return b == std::byte{0}; });
  };
  IMSY_TRY_ASSIGN(const bool first, read_block());
  if (!first || !is_zero()) return first;
  IMSY_TRY_ASSIGN(const bool second, read_block());
  if (second && !is_zero()) {
    return fail(Errc::kCorrupt, "one block of zeros, where two end an archive");
  }
  return false;
}

Status Reader::Impl::end_of_archive(const Pending& pending) {
  if (pending.any) {
    return fail(Errc::kCorrupt, "the archive ends after an extended header without its entry");
  }
  ended = true;
  return input.drain();
}

// The content of an extended header, which is small or refused.
Result<std::string> Reader::Impl::read_special(const RawHeader& raw) {
  if (stored_left > limits.pax_bytes) {
    return fail(Errc::kInvalid, "an extended header of " + std::to_string(raw.size) +
                                    " bytes is beyond the limit of " +
                                    std::to_string(limits.pax_bytes));
  }
  std::string text(static_cast<std::size_t>(stored_left), '\0');
  IMSY_TRY_ASSIGN(const std::size_t got, input.read_full(std::as_writable_bytes(std::span(text))));
  stored_left -= got;
  if (stored_left > 0) return cut_short();
  return text;
}

// If `raw` is an extended header, keeps what it says about the next entry and returns true.
Result<bool> Reader::Impl::take_extended(const RawHeader& raw, Pending& pending) {
  const char type = raw.type;
  if (type != 'x' && type != 'g' && type != 'L' && type != 'K') return false;
  IMSY_TRY_ASSIGN(std::string text, read_special(raw));
  if (type == 'x' || type == 'g') {
    auto records = parse_records(text);
    if (!records) return fail(records.error());
    // Only the last of several 'x' counts. A 'g' is an entry of its own to Go: it is ignored, and
    // so is what stood before it.
    pending = type == 'x' ? Pending{std::move(*records), std::move(pending.name),
                                    std::move(pending.link), true}
                          : Pending{};
    return true;
  }
  (type == 'L' ? pending.name : pending.link) = until_nul(text);
  pending.any = true;
  return true;
}

// Sets up reading of the content that `raw.size` promises.
Status Reader::Impl::start_content(const RawHeader& raw) {
  stored_left = 0;
  padding_left = 0;
  if (is_header_only(raw.type)) return {};
  if (raw.size < 0) return fail(Errc::kInvalid, "its size is negative");
  stored_left = static_cast<std::uint64_t>(raw.size);
  padding_left = padding(stored_left);
  return {};
}

Result<std::optional<SparseMap>> Reader::Impl::read_sparse_map(RawHeader& raw,
                                                               const Records& records) {
  const auto read_block = [&]() -> Result<std::string_view> {
    IMSY_TRY_ASSIGN(const std::size_t got, input.read_full(block));
    if (got < block.size()) return Error(Errc::kCorrupt, "the archive ends in its sparse map");
    return block_text();
  };
  if (raw.type == 'S') {
    const auto size = parse_number(field(block_text(), kGnuRealSize));
    if (!raw.gnu || !size) return Error(Errc::kCorrupt, "its sparse header is malformed");
    raw.size = *size;
    IMSY_TRY_ASSIGN(SparseMap found,
                    read_old_gnu_map(block_text(), read_block, limits.sparse_bytes));
    return std::optional(std::move(found));
  }
  const SparseKind kind = sparse_kind(records);
  if (kind == SparseKind::kNone) return std::optional<SparseMap>();
  if (is_header_only(raw.type)) {
    return Error(Errc::kCorrupt, "it has a sparse map, but entries of its type have no content");
  }
  const auto name = record_or_empty(records, "GNU.sparse.name");
  if (!name.empty()) raw.name = name;
  auto size = record_or_empty(records, "GNU.sparse.size");
  if (size.empty()) size = record_or_empty(records, "GNU.sparse.realsize");
  if (!size.empty()) {
    const auto parsed = parse_decimal(size);
    if (!parsed) return Error(Errc::kCorrupt, "its sparse size is malformed");
    raw.size = *parsed;
  }
  if (kind == SparseKind::kRecords) {
    IMSY_TRY_ASSIGN(SparseMap found, read_record_map(records));
    return std::optional(std::move(found));
  }
  // This map is part of the stored content, which pays for each of its blocks.
  const auto content_block = [&]() -> Result<std::string_view> {
    if (stored_left < kBlockSize) return Error(Errc::kCorrupt, "its sparse map is cut short");
    stored_left -= kBlockSize;
    return read_block();
  };
  IMSY_TRY_ASSIGN(SparseMap found, read_leading_map(content_block, limits.sparse_bytes));
  return std::optional(std::move(found));
}

// If the entry is sparse, replaces its name and size by the real ones and sets up its map.
Status Reader::Impl::start_sparse(RawHeader& raw, const Records& records) {
  auto found = read_sparse_map(raw, records);
  if (!found) return fail(found.error());
  if (!*found) return {};
  map = std::move(**found);
  if (!fits(map, raw.size)) return fail(Errc::kCorrupt, "its sparse map does not fit its size");
  if (stored_bytes(map) != stored_left) {
    return fail(Errc::kCorrupt, "its sparse map does not cover its content exactly");
  }
  sparse = true;
  map_index = 0;
  position = 0;
  sparse_size = static_cast<std::uint64_t>(raw.size);
  if (sparse_size > limits.sparse_expanded - sparse_total) {
    return fail(Errc::kInvalid, "the sparse files expand to more than the limit of " +
                                    std::to_string(limits.sparse_expanded) + " bytes");
  }
  sparse_total += sparse_size;
  return {};
}

Status Reader::Impl::fill_numbers(const RawHeader& raw, Header& header) {
  const auto in_u32 = [](std::int64_t value) { return value >= 0 && value <= kU32Max; };
  if (!in_u32(raw.mode)) return fail(Errc::kInvalid, "its mode is out of range");
  header.mode = static_cast<std::uint32_t>(raw.mode) & 07777;
  // The largest id means "leave the owner as it is" to chown(2).
  if (!in_u32(raw.uid) || raw.uid == kU32Max || !in_u32(raw.gid) || raw.gid == kU32Max) {
    return fail(Errc::kInvalid, "its owner is out of range");
  }
  header.uid = static_cast<std::uint32_t>(raw.uid);
  header.gid = static_cast<std::uint32_t>(raw.gid);
  header.mtime_s = raw.mtime_s;
  header.mtime_ns = raw.mtime_ns;
  if (header.type == Type::kRegular) header.size = static_cast<std::uint64_t>(raw.size);
  if (!is_device(header.type)) return {};
  if (!in_u32(raw.device_major) || !in_u32(raw.device_minor)) {
    return fail(Errc::kInvalid, "its device number is out of range");
  }
  header.device_major = static_cast<std::uint32_t>(raw.device_major);
  header.device_minor = static_cast<std::uint32_t>(raw.device_minor);
  return {};
}

// Sorts the records into xattrs and others. Empty values stay: an xattr may be empty.
Status Reader::Impl::fill_records(Records& records, Header& header) {
  for (auto& [key, value] : records) {
    if (key.starts_with(kXattrPrefix)) {
      if (key.size() == kXattrPrefix.size()) {
        return fail(Errc::kInvalid, "it has an extended attribute without a name");
      }
      header.xattrs[key.substr(kXattrPrefix.size())] = std::move(value);
    } else if (!is_field(key)) {
      header.records[key] = std::move(value);
    }
  }
  return {};
}

// Brings header block and extended headers together: `block` still holds the former.
Status Reader::Impl::start_entry(RawHeader& raw, Pending& pending, Header& header) {
  entry_name = raw.name;
  for (const auto& [key, value] : pending.records) {
    if (!value.empty() && !apply_record(key, value, raw)) {
      return fail(Errc::kCorrupt,
                  "the value of its pax record " + in_quotes(key) + " is malformed");
    }
  }
  if (!pending.name.empty()) raw.name = pending.name;
  if (!pending.link.empty()) raw.link = pending.link;
  if (raw.type == '\0') raw.type = raw.name.ends_with('/') ? '5' : '0';
  entry_name = raw.name;
  IMSY_TRY(start_content(raw));
  IMSY_TRY(start_sparse(raw, pending.records));
  content_offset = sparse ? std::nullopt : std::optional(input.offset());
  entry_name = raw.name;

  const auto type = type_of(raw.type);
  if (!type) {
    return fail(Errc::kInvalid,
                "its type " + in_quotes(std::string_view(&raw.type, 1)) + " is unknown");
  }
  header = Header();
  header.type = *type;
  header.name = std::move(raw.name);
  if (*type == Type::kHardLink || *type == Type::kSymlink) header.link = std::move(raw.link);
  if (header.name.find('\0') != std::string::npos) {
    return fail(Errc::kInvalid, "its name has a NUL in it");
  }
  IMSY_TRY(fill_numbers(raw, header));
  return fill_records(pending.records, header);
}

Result<bool> Reader::Impl::advance(Header& header) {
  Pending pending;
  for (;;) {
    IMSY_TRY(finish_entry());
    entry_offset = input.offset();
    entry_name.clear();
    IMSY_TRY_ASSIGN(const bool more, read_header_block());
    if (!more) {
      IMSY_TRY(end_of_archive(pending));
      return false;
    }
    auto raw = parse_block(block_text());
    if (!raw) return fail(raw.error());
    IMSY_TRY(start_content(*raw));
    IMSY_TRY_ASSIGN(const bool extended, take_extended(*raw, pending));
    if (extended) continue;
    IMSY_TRY(start_entry(*raw, pending, header));
    return true;
  }
}

Result<std::size_t> Reader::Impl::read_content(std::span<std::byte> buffer) {
  std::uint64_t wanted = buffer.size();
  if (sparse) {
    while (map_index < map.size() &&
           position >= static_cast<std::uint64_t>(map[map_index].offset + map[map_index].length)) {
      ++map_index;
    }
    const bool in_hole =
        map_index == map.size() || position < static_cast<std::uint64_t>(map[map_index].offset);
    if (in_hole) {
      const auto end =
          map_index == map.size() ? sparse_size : static_cast<std::uint64_t>(map[map_index].offset);
      const auto count = static_cast<std::size_t>(std::min(wanted, end - position));
      if (count > 0) std::memset(buffer.data(), 0, count);
      position += count;
      return count;
    }
    const auto end = map[map_index].offset + map[map_index].length;
    wanted = std::min(wanted, static_cast<std::uint64_t>(end) - position);
  }
  wanted = std::min(wanted, stored_left);
  if (wanted == 0) return std::size_t{0};
  IMSY_TRY_ASSIGN(const std::size_t got,
                  input.read(buffer.first(static_cast<std::size_t>(wanted))));
  if (got == 0) return cut_short();
  stored_left -= got;
  if (sparse) position += got;
  return got;
}

Reader::Reader(ByteReader& input, const ReaderLimits& limits)
    : impl_(std::make_unique<Impl>(input, limits)) {}

Reader::~Reader() = default;

Result<bool> Reader::next(Header& header) {
  if (impl_->failure) return *impl_->failure;
  if (impl_->ended) return false;
  auto result = impl_->advance(header);
  if (!result) impl_->failure = result.error();
  return result;
}

Result<std::size_t> Reader::read(std::span<std::byte> buffer) {
  if (impl_->failure) return *impl_->failure;
  if (impl_->ended) return std::size_t{0};
  auto result = impl_->read_content(buffer);
  if (!result) impl_->failure = result.error();
  return result;
}

std::optional<std::uint64_t> Reader::content_offset() const {
  return impl_->content_offset;
}

}  // namespace imsy::oci::tar
