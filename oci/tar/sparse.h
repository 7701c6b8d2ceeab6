// Sparse files: which parts of the content are in the archive, in GNU's four notations.
//
// Internal to oci/tar. Old GNU (type 'S', map in the header block and in blocks behind it), pax 0.0
// and 0.1 (map in the pax header; the parser of records turns 0.0 into 0.1), pax 1.0 (map in front
// of the content). docs/format/tar.md.
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "oci/tar/block.h"
#include "oci/tar/pax.h"

namespace imsy::oci::tar {

// A run of content that is in the archive; everything between runs reads as zeros.
struct Extent {
  std::int64_t offset;
  std::int64_t length;
};
using SparseMap = std::vector<Extent>;

// Gives the next block of the archive (kBlockSize bytes, valid until the next call) or fails.
using BlockSource = std::function<Result<std::string_view>()>;

// The map of an old GNU header: `header` is its block, further blocks come from `next_block`.
// kCorrupt: malformed. kInvalid: more than `limit` bytes of map.
Result<SparseMap> read_old_gnu_map(std::string_view header, const BlockSource& next_block,
                                   std::uint64_t limit);
// The map in front of the content (1.0): decimal numbers, one per line, padded to whole blocks.
// Errors as above.
Result<SparseMap> read_leading_map(const BlockSource& next_block, std::uint64_t limit);
// The map in `records` (0.1). kCorrupt: malformed, or GNU.sparse.numblocks says something else.
Result<SparseMap> read_record_map(const Records& records);

// True if the runs are in order, do not overlap, and lie within `size`.
bool fits(const SparseMap& map, std::int64_t size);
// The sum of the lengths. The map must fit some size.
std::uint64_t stored_bytes(const SparseMap& map);

}  // namespace imsy::oci::tar
