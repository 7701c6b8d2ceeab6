// Profile: what a container reads of its image when it starts, in the order of first accesses.
//
// The converter puts those files in front of the others; the node fetches them first.
// A text that people can read and write; on disk: docs/format/profile.md.
// Threads: plain values.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace imsy::cdc {

class Profile {
 public:
  struct Access {
    std::string path;          // from the image's root, without a leading '/'; bytes as they are
    std::uint64_t offset = 0;  // of the bytes that were read first
    std::uint64_t length = 0;  // ... and how many; 0: the whole file
    bool operator==(const Access&) const = default;
  };

  static constexpr std::size_t kTextLimit = 16u << 20;  // bytes
  static constexpr std::size_t kAccessLimit = 100'000;
  static constexpr std::size_t kPathLimit = 4096;

  // kInvalid, with the number of the line, unless `text` is a profile within the limits.
  static Result<Profile> parse(std::string_view text);
  std::string to_text() const;

  // What any of them has. An access comes where it comes on average in those that have it; equal
  // means are ordered by path, then offset.
  static Profile merge(std::span<const Profile> profiles);

  const std::vector<Access>& accesses() const { return accesses_; }
  // kInvalid beyond the limits, and for a path that can be none: empty, with NUL or a
  // leading slash, too long.
  Status add(Access access);

 private:
  std::vector<Access> accesses_;
};

}  // namespace imsy::cdc
