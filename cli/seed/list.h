// The hash list: which chunks, in which order, make a file.
//
// Per chunk 64 lower-case hex digits and a newline, nothing else. The list is kept beside the
// chunks; its digest is what `imsy prepare` prints and `imsy pull` takes.
// Threads: free functions, any thread.
// Format: docs/format/seed.md.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/result.h"

namespace imsy::cli::seed {

inline constexpr std::size_t kListLineSize = 65;

// Limits of what we read, so that nobody can fill our memory. A list of this size describes 264 GiB
// at the very least (all chunks of minimal size), about 2.7 TB of ordinary data.
inline constexpr std::uint64_t kListSizeMax = 256 << 20;
// Chunks made by this program have at most 1 MiB; those of a variant with other limits are read.
inline constexpr std::uint64_t kPulledChunkSizeMax = 16 << 20;

std::string format_list(const std::deque<Digest>& chunks);

// kInvalid when `text` is not a list, naming the first line that is wrong.
Result<std::vector<Digest>> parse_list(ByteSpan text);

}  // namespace imsy::cli::seed
