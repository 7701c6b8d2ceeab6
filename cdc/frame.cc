#include "cdc/frame.h"

#include <cassert>
#include <cstdlib>
#include <limits>
#include <string>

#include "cdc/frame_codec.h"

namespace imsy::cdc {
namespace {

constexpr std::uint32_t kFrameMagic = 0xfd2fb528;
constexpr std::uint32_t kSkippableMagic = 0x184d2a5d;

// zstd's tables for sources of up to 256 KiB look for short matches, those for larger ones do not,
// since far ones are worth more there. A frame has little far behind, so short matches pay: 1 % of
// the size. Levels beyond do it anyway; those below are there for speed.
constexpr int kShortMatchFrom = 6;
constexpr int kShortMatchTo = 16;
constexpr int kShortMatch = 4;

// Counts the changes of what an encoder makes at one level with one version of zstd.
constexpr int kRevision = 1;

void check(std::size_t zstd_result) {
  if (ZSTD_isError(zstd_result) != 0) std::abort();
}

Error bad_frame(const std::string& what) {
  return Error(Errc::kCorrupt, "frame: " + what);
}

// What every zstd decoder should support (RFC 8878, 3.1.1.1.2). A frame that states its content
// size decodes straight into the caller's buffer, so here a window of any size costs no memory; but
// an ordinary reader of the blob would refuse it, or pay for it.
constexpr std::uint64_t kWindowLimit = 8u << 20;

bool window_exceeds_limit(ByteSpan stored) {
  const auto descriptor = std::to_integer<unsigned>(stored[4]);
  const bool single_segment = (descriptor & 0x20) != 0;
  if (single_segment) return false;  // the window is the content
  const auto window = std::to_integer<unsigned>(stored[5]);
  const std::uint64_t base = std::uint64_t{1} << (10 + (window >> 3));
  return base + base / 8 * (window & 7) > kWindowLimit;
}

}  // namespace

CompressContext make_compress_context(int level) {
  CompressContext context(ZSTD_createCCtx());
  if (!context) std::abort();
  check(ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, level));
  check(ZSTD_CCtx_setParameter(context.get(), ZSTD_c_contentSizeFlag, 1));
  check(ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 0));
  check(ZSTD_CCtx_setParameter(context.get(), ZSTD_c_dictIDFlag, 0));
  return context;
}

DecompressContext make_decompress_context() {
  DecompressContext context(ZSTD_createDCtx());
  if (!context) std::abort();
  return context;
}

Bytes encode_frame(ZSTD_CCtx& context, ByteSpan raw) {
  Bytes stored(ZSTD_compressBound(raw.size()));
  const std::size_t size =
      ZSTD_compress2(&context, stored.data(), stored.size(), raw.data(), raw.size());
  // The bound suffices by definition, so only lack of memory can fail.
  check(size);
  stored.resize(size);
  return stored;
}

Status decode_frame(ZSTD_DCtx& context, ByteSpan stored, std::span<std::byte> raw) {
  // The shortest frame: magic, descriptor, content size or window, one block of a byte.
  if (stored.size() < 9 || load_le<std::uint32_t>(stored.data()) != kFrameMagic) {
    return bad_frame("not a zstd frame");
  }
  const unsigned long long content = ZSTD_getFrameContentSize(stored.data(), stored.size());
  if (content == ZSTD_CONTENTSIZE_UNKNOWN || content == ZSTD_CONTENTSIZE_ERROR) {
    return bad_frame("the content size is not stated");
  }
  if (content != raw.size()) {
    return bad_frame("holds " + std::to_string(content) + " bytes instead of " +
                     std::to_string(raw.size()));
  }
  if (ZSTD_getDictID_fromFrame(stored.data(), stored.size()) != 0) {
    return bad_frame("wants a dictionary");
  }
  if (window_exceeds_limit(stored)) return bad_frame("the window is too large");
  const std::size_t whole = ZSTD_findFrameCompressedSize(stored.data(), stored.size());
  if (ZSTD_isError(whole) != 0) return bad_frame(ZSTD_getErrorName(whole));
  if (whole != stored.size()) return bad_frame("bytes follow its end");
  const std::size_t size =
      ZSTD_decompressDCtx(&context, raw.data(), raw.size(), stored.data(), stored.size());
  if (ZSTD_isError(size) != 0) return bad_frame(ZSTD_getErrorName(size));
  if (size != raw.size()) return bad_frame("ends too early");
  return {};
}

struct FrameEncoder::Impl {
  CompressContext context;
};

FrameEncoder::FrameEncoder(int level)
    : impl_(std::make_unique<Impl>(Impl{make_compress_context(level)})) {
  assert(level >= 1 && level <= 22);
  if (level >= kShortMatchFrom && level <= kShortMatchTo) {
    check(ZSTD_CCtx_setParameter(impl_->context.get(), ZSTD_c_minMatch, kShortMatch));
  }
}
std::string FrameEncoder::describe(int level) {
  return "zstd " + std::string(ZSTD_versionString()) + " level " + std::to_string(level) +
         " revision " + std::to_string(kRevision);
}
FrameEncoder::~FrameEncoder() = default;
FrameEncoder::FrameEncoder(FrameEncoder&&) noexcept = default;

Bytes FrameEncoder::encode(ByteSpan raw) {
  assert(!raw.empty() && raw.size() <= kFrameLimit);
  return encode_frame(*impl_->context, raw);
}

struct FrameDecoder::Impl {
  DecompressContext context;
};

FrameDecoder::FrameDecoder() : impl_(std::make_unique<Impl>(Impl{make_decompress_context()})) {}
FrameDecoder::~FrameDecoder() = default;
FrameDecoder::FrameDecoder(FrameDecoder&&) noexcept = default;

Result<Bytes> FrameDecoder::decode(ByteSpan stored, std::uint32_t raw_size) {
  if (raw_size == 0 || raw_size > kFrameLimit) {
    return bad_frame(std::to_string(raw_size) + " bytes is no possible size");
  }
  Bytes raw(raw_size);
  IMSY_TRY(decode_frame(*impl_->context, stored, raw));
  return raw;
}

Result<Bytes> skippable_header(std::uint64_t payload_size) {
  if (payload_size > std::numeric_limits<std::uint32_t>::max()) {
    return Error(Errc::kInvalid, "a skippable frame holds less than 4 GiB, not " +
                                     std::to_string(payload_size) + " bytes");
  }
  Bytes header;
  append_le(header, kSkippableMagic);
  append_le(header, static_cast<std::uint32_t>(payload_size));
  return header;
}

}  // namespace imsy::cdc
