#include "cdc/object_id.h"

#include <string_view>

#include "common/bytes.h"

namespace imsy::cdc {
namespace {
// With its NUL, so that no other tag can begin with it.
constexpr std::string_view kTag("imsy object v1", 15);
}  // namespace

ObjectId object_id(std::uint64_t size, std::span<const ChunkDigest> chunks) {
  // One hasher per thread: an image has tens of thousands of objects, most of one chunk.
  thread_local Hasher hasher;
  std::byte raw_size[sizeof size];
  store_le(raw_size, size);
  hasher.update(kTag);
  hasher.update(raw_size);
  for (const ChunkDigest& chunk : chunks) hasher.update(chunk.bytes());
  return hasher.finish();
}

}  // namespace imsy::cdc
