// Pax extended headers: "<length> <key>=<value>\n" records, and the numbers and times in them.
//
// Internal to oci/tar. Reading is as lenient as Go's archive/tar, writing is canonical.
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"

namespace imsy::oci::tar {

using Records = std::map<std::string, std::string>;

inline constexpr std::string_view kXattrPrefix = "SCHILY.xattr.";
inline constexpr std::string_view kSparsePrefix = "GNU.sparse.";
inline constexpr std::string_view kSparseMap = "GNU.sparse.map";

// The most that Go reads of one extended header, and so the most we write.
inline constexpr std::uint64_t kPaxBytesMax = 1u << 20;

// The records of an extended header's content; of equal keys the last. The pairs of GNU's sparse
// format 0.0 (one key repeated, which a map cannot hold) are joined into one kSparseMap record, as
// format 0.1 has it. kCorrupt: malformed.
Result<Records> parse_records(std::string_view body);

// True if `key` and `value` can stand in a record: the key is not empty and has no '=' and no NUL,
// and the values that are C strings have no NUL.
bool valid_record(std::string_view key, std::string_view value);
std::string format_record(std::string_view key, std::string_view value);

// A decimal number with an optional sign. Nothing: malformed, or beyond 64 bits.
std::optional<std::int64_t> parse_decimal(std::string_view text);

struct Time {
  std::int64_t s = 0;
  std::uint32_t ns = 0;  // counts forward also when s is negative
};
// "<seconds>[.<fraction>]", digits beyond the ninth are dropped. Nothing: malformed or too large.
std::optional<Time> parse_time(std::string_view text);
std::string format_time(const Time& time);

}  // namespace imsy::oci::tar
