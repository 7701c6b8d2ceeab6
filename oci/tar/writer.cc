// The encoder: one entry's header blocks, canonical. The format: docs/format/tar.md.
#include <algorithm>
#include <cstring>
#include <limits>

#include "oci/tar/block.h"
#include "oci/tar/pax.h"
#include "oci/tar/tar.h"

namespace imsy::oci::tar {
namespace {

// The name of every pax header entry. It is never unpacked by a reader that knows pax, so one name
// does for all, and compresses best.
constexpr std::string_view kPaxName = "PaxHeaders.0/entry";

char type_flag(Type type) {
  switch (type) {
    case Type::kRegular: return '0';
    case Type::kHardLink: return '1';
    case Type::kSymlink: return '2';
    case Type::kCharDevice: return '3';
    case Type::kBlockDevice: return '4';
    case Type::kDirectory: return '5';
    case Type::kFifo: return '6';
  }
  return '0';
}

bool is_link(Type type) {
  return type == Type::kHardLink || type == Type::kSymlink;
}
bool has_nul(std::string_view text) {
  return text.find('\0') != std::string_view::npos;
}

// The largest number that a field of octal digits and one NUL can hold.
constexpr std::uint64_t octal_max(Field where) {
  return (std::uint64_t{1} << (3 * (where.size - 1))) - 1;
}

Error refuse(const Header& header, std::string_view what) {
  return Error(Errc::kInvalid, "tar entry " + in_quotes(header.name) + ": " + std::string(what));
}

// A record with one of these keys would contradict the header's own members.
bool is_reserved(std::string_view key) {
  constexpr std::string_view kMembers[] = {"path", "linkpath", "size", "uid", "gid", "mtime"};
  return std::find(std::begin(kMembers), std::end(kMembers), key) != std::end(kMembers) ||
         key.starts_with(kXattrPrefix) || key.starts_with(kSparsePrefix);
}

Status check_names(const Header& header) {
  if (header.name.empty() || has_nul(header.name)) {
    return refuse(header, "the name is empty or has a NUL in it");
  }
  // Readers disagree whether such an entry is a directory.
  const bool plain =
      header.type == Type::kRegular || header.type == Type::kFifo || is_device(header.type);
  if (plain && header.name.ends_with('/')) {
    return refuse(header, "the name ends in a slash, but it is no directory");
  }
  if (is_link(header.type) == header.link.empty() || has_nul(header.link)) {
    return refuse(header, "the link target is missing, has a NUL in it, or has no place here");
  }
  return {};
}

Status check_numbers(const Header& header) {
  constexpr auto kNobody = std::numeric_limits<std::uint32_t>::max();
  if (header.mode > 07777) return refuse(header, "the mode has more than permission bits");
  if (header.uid == kNobody || header.gid == kNobody) {
    return refuse(header, "the owner is the reserved id 4294967295");
  }
  const bool too_large =
      header.size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (too_large || (header.size != 0 && header.type != Type::kRegular)) {
    return refuse(header, "the size is too large, or has no place here");
  }
  if (header.mtime_ns >= 1'000'000'000) return refuse(header, "mtime_ns is a second or more");
  const bool has_device = header.device_major != 0 || header.device_minor != 0;
  if ((has_device && !is_device(header.type)) || header.device_major > octal_max(kDeviceMajor) ||
      header.device_minor > octal_max(kDeviceMinor)) {
    return refuse(header, "the device number is too large, or has no place here");
  }
  return {};
}

// What does not fit the ustar block, by key.
Result<Records> extended_records(const Header& header) {
  Records records;
  for (const auto& [key, value] : header.records) {
    if (is_reserved(key)) return refuse(header, "the record " + in_quotes(key) + " is reserved");
    records[key] = value;
  }
  for (const auto& [name, value] : header.xattrs) {
    if (name.empty()) return refuse(header, "an extended attribute has no name");
    records[std::string(kXattrPrefix) + name] = value;
  }
  if (header.name.size() > kName.size) records["path"] = header.name;
  if (header.link.size() > kLink.size) records["linkpath"] = header.link;
  if (header.uid > octal_max(kUid)) records["uid"] = std::to_string(header.uid);
  if (header.gid > octal_max(kGid)) records["gid"] = std::to_string(header.gid);
  if (header.size > octal_max(kSize)) records["size"] = std::to_string(header.size);
  const bool plain_time = header.mtime_ns == 0 && header.mtime_s >= 0 &&
                          static_cast<std::uint64_t>(header.mtime_s) <= octal_max(kMtime);
  if (!plain_time) records["mtime"] = format_time({header.mtime_s, header.mtime_ns});
  for (const auto& [key, value] : records) {
    if (!valid_record(key, value)) return refuse(header, "pax cannot carry " + in_quotes(key));
  }
  return records;
}

// A header block under construction.
class Block {
 public:
  explicit Block(char type) : bytes_(kBlockSize, '\0') {
    text(kMagic, "ustar");
    text(kVersion, "00");
    text(kType, std::string_view(&type, 1));
  }
  // What does not fit is cut, and stands in a record as well.
  void text(Field where, std::string_view value) {
    value = value.substr(0, where.size);
    bytes_.replace(where.offset, value.size(), value);
  }
  // 0 for what does not fit, and stands in a record as well.
  void number(Field where, std::uint64_t value) {
    if (value > octal_max(where)) value = 0;
    for (std::size_t i = where.size - 1; i-- > 0; value /= 8) {
      bytes_[where.offset + i] = static_cast<char>('0' + value % 8);
    }
  }
  std::string finish() && {
    const auto sum = static_cast<std::uint64_t>(checksums(bytes_).unsigned_sum);
    // Six digits, a NUL and a space, unlike the other numbers.
    number({kChecksum.offset, kChecksum.size - 1}, sum);
    bytes_[kChecksum.offset + kChecksum.size - 1] = ' ';
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
};

// A name for the block, when the record holds the whole. A cut behind a slash would make some
// readers take a file for a directory.
std::string_view cut_name(std::string_view name) {
  if (name.size() <= kName.size) return name;
  name = name.substr(0, kName.size);
  return name.substr(0, name.find_last_not_of('/') + 1);
}

std::string entry_block(const Header& header) {
  Block block(type_flag(header.type));
  block.text(kName, cut_name(header.name));
  block.text(kLink, header.link);
  block.number(kMode, header.mode);
  block.number(kUid, header.uid);
  block.number(kGid, header.gid);
  block.number(kSize, header.size);
  block.number(kMtime, header.mtime_s < 0 ? 0 : static_cast<std::uint64_t>(header.mtime_s));
  block.number(kDeviceMajor, header.device_major);
  block.number(kDeviceMinor, header.device_minor);
  return std::move(block).finish();
}

std::string pax_entry(std::string_view body) {
  Block block('x');
  block.text(kName, kPaxName);
  block.number(kMode, 0644);
  for (const Field zero : {kUid, kGid, kMtime, kDeviceMajor, kDeviceMinor}) block.number(zero, 0);
  block.number(kSize, body.size());
  std::string bytes = std::move(block).finish();
  bytes += body;
  bytes.append(static_cast<std::size_t>(padding(body.size())), '\0');
  return bytes;
}

}  // namespace

Result<std::string> encode_header(const Header& header) {
  IMSY_TRY(check_names(header));
  IMSY_TRY(check_numbers(header));
  IMSY_TRY_ASSIGN(const Records records, extended_records(header));
  if (records.empty()) return entry_block(header);
  std::string body;
  for (const auto& [key, value] : records) body += format_record(key, value);
  if (body.size() > kPaxBytesMax) {
    return refuse(header,
                  "its extended attributes and records take more than 1 MiB, which readers "
                  "refuse");
  }
  return pax_entry(body) + entry_block(header);
}

Result<std::string> marker_archive(std::string_view record_key, std::string_view record_value) {
  Header header;
  header.name = "./";
  header.type = Type::kDirectory;
  header.mode = 0755;
  header.records[std::string(record_key)] = record_value;
  IMSY_TRY_ASSIGN(std::string archive, encode_header(header));
  archive.append(kEndSize, '\0');
  return archive;
}

}  // namespace imsy::oci::tar
