// One zstd frame, written and read whole: what frames of a data layer and sections of the CDC
// manifest share. Internal to cdc.
//
// Source: RFC 8878.
// Threads: a context belongs to one thread.
#pragma once

#include <zstd.h>

#include <memory>

#include "common/bytes.h"
#include "common/result.h"

namespace imsy::cdc {

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};
using CompressContext = std::unique_ptr<ZSTD_CCtx, FreeContext>;
using DecompressContext = std::unique_ptr<ZSTD_DCtx, FreeContext>;

// Without memory for a context the process ends: nothing could go on.
CompressContext make_compress_context(int level);
DecompressContext make_decompress_context();

// One frame of `raw` with its content size, no checksum, no dictionary id.
Bytes encode_frame(ZSTD_CCtx& context, ByteSpan raw);

// Fills `raw` from the single frame `stored`. kCorrupt unless `stored` is exactly one frame, its
// content size is stated and is raw.size(), and it names no dictionary. Never writes elsewhere.
Status decode_frame(ZSTD_DCtx& context, ByteSpan stored, std::span<std::byte> raw);

}  // namespace imsy::cdc
