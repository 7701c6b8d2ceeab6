#include "oci/tar/block.h"

#include <algorithm>
#include <cstdio>

namespace imsy::oci::tar {
namespace {

enum class Layout { kV7, kUstar, kStar, kGnu };

constexpr std::uint8_t byte_of(char c) {
  return static_cast<std::uint8_t>(c);
}

Layout layout_of(std::string_view block) {
  using std::string_view_literals::operator""sv;
  const auto magic = field(block, kMagic);
  if (magic == "ustar\0"sv) {
    return field(block, kStarTrailer) == "tar\0"sv ? Layout::kStar : Layout::kUstar;
  }
  if (magic == "ustar "sv && field(block, kVersion) == " \0"sv) return Layout::kGnu;
  return Layout::kV7;
}

std::optional<std::int64_t> parse_octal(std::string_view text) {
  constexpr std::string_view kFill(" \0", 2);
  const auto first = text.find_first_not_of(kFill);
  if (first == std::string_view::npos) return 0;
  text = text.substr(first, text.find_last_not_of(kFill) - first + 1);
  std::int64_t value = 0;  // a field has at most 12 characters, so this cannot overflow
  for (const char c : until_nul(text)) {
    if (c < '0' || c > '7') return std::nullopt;
    value = value * 8 + (c - '0');
  }
  return value;
}

// Two's complement, most significant byte first; the highest bit is only the mark.
std::optional<std::int64_t> parse_base256(std::string_view text) {
  const std::uint8_t invert = (byte_of(text[0]) & 0x40) != 0 ? 0xff : 0x00;
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (value >> 56 != 0) return std::nullopt;
    auto digit = static_cast<std::uint8_t>(byte_of(text[i]) ^ invert);
    if (i == 0) digit &= 0x7f;
    value = value << 8 | digit;
  }
  if (value >> 63 != 0) return std::nullopt;
  const auto magnitude = static_cast<std::int64_t>(value);
  return invert != 0 ? ~magnitude : magnitude;
}

// Reads several number fields and remembers whether one of them was none.
class Numbers {
 public:
  explicit Numbers(std::string_view block) : block_(block) {}
  std::int64_t operator()(Field where) {
    const auto value = parse_number(field(block_, where));
    if (!value) good_ = false;
    return value.value_or(0);
  }
  bool good() const { return good_; }

 private:
  std::string_view block_;
  bool good_ = true;
};

// The old GNU layout has times where ustar has its prefix. Some writers put a prefix there all the
// same, and Go reads it when the bytes are no times.
std::string_view gnu_prefix(std::string_view block) {
  for (const Field where : {kGnuAtime, kGnuCtime}) {
    const auto text = field(block, where);
    if (text[0] == '\0' || parse_number(text)) continue;
    const auto prefix = until_nul(field(block, kUstarPrefix));
    const bool ascii =
        std::all_of(prefix.begin(), prefix.end(), [](char c) { return byte_of(c) < 0x80; });
    return ascii ? prefix : std::string_view();
  }
  return {};
}

}  // namespace

std::string_view until_nul(std::string_view text) {
  return text.substr(0, text.find('\0'));
}

std::optional<std::int64_t> parse_number(std::string_view text) {
  if (!text.empty() && (byte_of(text[0]) & 0x80) != 0) return parse_base256(text);
  return parse_octal(text);
}

Checksums checksums(std::string_view block) {
  Checksums sums{0, 0};
  for (std::size_t i = 0; i < block.size(); ++i) {
    const bool masked = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.size;
    const auto byte = masked ? std::uint8_t{' '} : byte_of(block[i]);
    sums.unsigned_sum += byte;
    sums.signed_sum += static_cast<std::int8_t>(byte);
  }
  return sums;
}

Result<RawHeader> parse_block(std::string_view block) {
  const auto stated = parse_octal(field(block, kChecksum));
  const auto sums = checksums(block);
  if (!stated || (*stated != sums.unsigned_sum && *stated != sums.signed_sum)) {
    return Error(Errc::kCorrupt, "the checksum of the header is wrong");
  }
  Numbers number(block);
  RawHeader raw;
  raw.type = block[kType.offset];
  raw.name = until_nul(field(block, kName));
  raw.link = until_nul(field(block, kLink));
  raw.mode = number(kMode);
  raw.uid = number(kUid);
  raw.gid = number(kGid);
  raw.size = number(kSize);
  raw.mtime_s = number(kMtime);

  const Layout layout = layout_of(block);
  std::string_view prefix;
  if (layout != Layout::kV7) {
    raw.device_major = number(kDeviceMajor);
    raw.device_minor = number(kDeviceMinor);
  }
  if (layout == Layout::kUstar) prefix = until_nul(field(block, kUstarPrefix));
  if (layout == Layout::kStar) {
    prefix = until_nul(field(block, kStarPrefix));
    number(kStarAtime);  // not used, but Go refuses the header when they are no numbers
    number(kStarCtime);
  }
  if (layout == Layout::kGnu) {
    raw.gnu = true;
    prefix = gnu_prefix(block);
  }
  if (!prefix.empty()) raw.name = std::string(prefix) + "/" + raw.name;
  if (!number.good()) return Error(Errc::kCorrupt, "a number in the header is malformed");
  return raw;
}

std::string in_quotes(std::string_view name) {
  constexpr std::size_t kShown = 200;
  std::string text = "\"";
  for (const char c : name.substr(0, kShown)) {
    if (c >= ' ' && c <= '~' && c != '"' && c != '\\') {
      text += c;
    } else {
      char escape[5];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned>(byte_of(c)));
      text += escape;
    }
  }
  return text + (name.size() > kShown ? "...\"" : "\"");
}

}  // namespace imsy::oci::tar
