#include <algorithm>

#include "cdc/manifest.h"

namespace imsy::cdc {

std::uint32_t Objects::object_of_chunk(std::uint32_t index) const {
  // Behind the last object that begins at or before the chunk; empty ones begin where the next
  // does.
  const auto behind = std::upper_bound(first_chunks_.begin(), first_chunks_.end(), index);
  return static_cast<std::uint32_t>(behind - first_chunks_.begin() - 1);
}

std::uint32_t Objects::chunk_at(std::uint32_t object, std::uint64_t offset) const {
  const auto chunks = chunks_of(object);
  const auto behind = std::upper_bound(
      chunks.begin(), chunks.end(), offset,
      [](std::uint64_t wanted, const Chunk& chunk) { return wanted < chunk.object_offset; });
  return first_chunk(object) + static_cast<std::uint32_t>(behind - chunks.begin() - 1);
}

std::uint32_t Objects::offset_in_frame(std::uint32_t chunk) const {
  const std::uint64_t place = raw_offsets_[object_of_chunk(chunk)] + chunks_[chunk].object_offset;
  return static_cast<std::uint32_t>(place - frames_[chunks_[chunk].frame].raw_offset);
}

}  // namespace imsy::cdc
