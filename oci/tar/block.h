// One block of a tar archive: the fields of a header block and how their numbers are written.
//
// Internal to oci/tar. The layouts (V7, ustar, star, old GNU) and the leniency in reading them are
// those of Go's archive/tar; docs/format/tar.md has the table.
// Threads: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"

namespace imsy::oci::tar {

inline constexpr std::size_t kBlockSize = 512;

// Where the fields of a header block lie.
struct Field {
  std::size_t offset;
  std::size_t size;
};
inline constexpr Field kName{0, 100};
inline constexpr Field kMode{100, 8};
inline constexpr Field kUid{108, 8};
inline constexpr Field kGid{116, 8};
inline constexpr Field kSize{124, 12};
inline constexpr Field kMtime{136, 12};
inline constexpr Field kChecksum{148, 8};
inline constexpr Field kType{156, 1};
inline constexpr Field kLink{157, 100};
inline constexpr Field kMagic{257, 6};
inline constexpr Field kVersion{263, 2};
inline constexpr Field kDeviceMajor{329, 8};
inline constexpr Field kDeviceMinor{337, 8};
inline constexpr Field kUstarPrefix{345, 155};
inline constexpr Field kStarPrefix{345, 131};
inline constexpr Field kStarAtime{476, 12};
inline constexpr Field kStarCtime{488, 12};
inline constexpr Field kStarTrailer{508, 4};
inline constexpr Field kGnuAtime{345, 12};
inline constexpr Field kGnuCtime{357, 12};
inline constexpr Field kGnuSparse{386, 97};
inline constexpr Field kGnuRealSize{483, 12};

inline std::string_view field(std::string_view block, Field where) {
  return block.substr(where.offset, where.size);
}

// What a header block says, before extended headers change it. Numbers may be negative.
struct RawHeader {
  char type = 0;     // the type flag as it stands in the block
  bool gnu = false;  // the old GNU layout
  std::string name;  // with the prefix of ustar or star before it
  std::string link;
  std::int64_t mode = 0;
  std::int64_t uid = 0;
  std::int64_t gid = 0;
  std::int64_t size = 0;
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;  // only ever set by an extended header
  std::int64_t device_major = 0;
  std::int64_t device_minor = 0;
};

// The fields of a block of kBlockSize bytes. kCorrupt: wrong checksum, or a field is no number.
Result<RawHeader> parse_block(std::string_view block);

// The value of a number field: octal digits between spaces and NULs (nothing else: 0), or base-256
// when its first bit is set. Nothing: malformed, or beyond 63 bits.
std::optional<std::int64_t> parse_number(std::string_view text);

// The sum of the bytes of a header block with the checksum field as spaces: of unsigned bytes as
// POSIX says, and of signed ones as some old programs did.
struct Checksums {
  std::int64_t unsigned_sum;
  std::int64_t signed_sum;
};
Checksums checksums(std::string_view block);

// `text` up to its first NUL.
std::string_view until_nul(std::string_view text);

// `name` for a message: in quotes, strange bytes as \xNN, cut when long.
std::string in_quotes(std::string_view name);

}  // namespace imsy::oci::tar
