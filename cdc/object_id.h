// ObjectId: the name of a file's content, a hash over its chunk list.
//
//   id = SHA-256("imsy object v1\0" || size as 64-bit little endian || chunk digests in order)
//
// so a name cannot lie about its chunks: who knows an id can check a chunk list from anywhere.
// The empty file has size 0 and no chunks.
// Threads: any.
#pragma once

#include <cstdint>
#include <span>

#include "common/digest.h"

namespace imsy::cdc {

using ChunkDigest = Digest;  // SHA-256 of the chunk's bytes
using ObjectId = Digest;

// The id of the object of `size` bytes that consists of `chunks`, in order. Whether their lengths
// add up to `size` is for the caller to check.
ObjectId object_id(std::uint64_t size, std::span<const ChunkDigest> chunks);

}  // namespace imsy::cdc
