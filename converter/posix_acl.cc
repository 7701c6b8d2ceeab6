#include "converter/posix_acl.h"

#include <cstddef>
#include <cstdint>

namespace imsy::converter {
namespace {

constexpr std::uint32_t kVersion = 2;
constexpr std::uint32_t kNobody = 0xFFFFFFFF;  // no owner that there can be
constexpr std::size_t kHeaderSize = 4;
constexpr std::size_t kEntrySize = 8;

// In the order in which entries must stand. Of the named ones there may be any number.
enum Tag : std::uint16_t {
  kOwner = 0x01,
  kNamedUser = 0x02,
  kGroup = 0x04,
  kNamedGroup = 0x08,
  kMask = 0x10,
  kOthers = 0x20,
};

std::uint64_t number(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

bool is_named(std::uint64_t tag) {
  return tag == kNamedUser || tag == kNamedGroup;
}

// One entry, behind one with the tag `last`.
bool is_valid_entry(std::string_view entry, std::uint64_t last) {
  const std::uint64_t tag = number(entry.substr(0, 2));
  const bool known = tag != 0 && tag <= kOthers && (tag & (tag - 1)) == 0;
  const bool in_order = tag > last || (tag == last && is_named(tag));
  const bool rights = number(entry.substr(2, 2)) <= 7;
  return known && in_order && rights && (!is_named(tag) || number(entry.substr(4, 4)) != kNobody);
}

bool is_valid_acl(std::string_view value) {
  if (value.size() < kHeaderSize || number(value.substr(0, kHeaderSize)) != kVersion) return false;
  value.remove_prefix(kHeaderSize);
  if (value.size() % kEntrySize != 0) return false;
  if (value.empty()) return true;  // no ACL beside the mode
  std::uint64_t seen = 0;
  std::uint64_t last = 0;
  for (; !value.empty(); value.remove_prefix(kEntrySize)) {
    if (!is_valid_entry(value.substr(0, kEntrySize), last)) return false;
    last = number(value.substr(0, 2));
    seen |= last;
  }
  constexpr std::uint64_t kAlways = kOwner | kGroup | kOthers;
  const bool needs_mask = (seen & (kNamedUser | kNamedGroup)) != 0;
  return (seen & kAlways) == kAlways && (!needs_mask || (seen & kMask) != 0);
}

}  // namespace

bool is_settable_acl(std::string_view name, std::string_view value, bool directory) {
  if (name == "system.posix_acl_access") return is_valid_acl(value);
  if (name == "system.posix_acl_default") return directory && is_valid_acl(value);
  return true;
}

}  // namespace imsy::converter
