#include "oci/decompress.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>

namespace imsy::oci {
namespace {

constexpr std::size_t kInputBuffer = 1 << 20;
constexpr std::size_t kOutputStep = 1 << 30;  // ISA-L counts the room for output in 32 bits
constexpr std::uint64_t kRatioFrom = 64u << 20;
constexpr std::uint32_t kZstdFrame = 0xFD2FB528;
constexpr std::uint32_t kZstdSkippable = 0x184D2A50;
constexpr std::uint32_t kZstdSkippableMask = 0xFFFFFFF0;
constexpr int kZstdWindowLogMax = 27;
constexpr std::size_t kZstdFirstBytes = 5;  // fewer than any frame's header

bool is_skippable(std::uint32_t magic) {
  return (magic & kZstdSkippableMask) == kZstdSkippable;
}

Error corrupt(const std::string& what) {
  return Error(Errc::kCorrupt, what);
}

// The compressed bytes, with a buffer that can be looked into.
class Source {
 public:
  explicit Source(ByteReader& input) : input_(input) {}

  ByteSpan available() const { return std::span(buffer_).subspan(begin_, end_ - begin_); }
  void consume(std::size_t count) { begin_ += count; }
  // Bytes that were consumed or given out by read().
  std::uint64_t consumed() const { return total_ - (end_ - begin_); }

  // Makes at least `count` bytes available (count <= kInputBuffer), or all that are left.
  Status fill(std::size_t count) {
    if (available().size() >= count) return {};
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    while (end_ < count && !ended_) {
      IMSY_TRY_ASSIGN(const std::size_t got, input_.read(std::span(buffer_).subspan(end_)));
      ended_ = got == 0;
      end_ += got;
      total_ += got;
    }
    return {};
  }

  // Reads past the buffer once it is empty.
  Result<std::size_t> read(std::span<std::byte> buffer) {
    const auto have = available();
    if (!have.empty()) {
      const std::size_t count = std::min(have.size(), buffer.size());
      std::memcpy(buffer.data(), have.data(), count);
      consume(count);
      return count;
    }
    IMSY_TRY_ASSIGN(const std::size_t got, input_.read(buffer));
    total_ += got;
    return got;
  }

 private:
  ByteReader& input_;
  Bytes buffer_ = Bytes(kInputBuffer);
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::uint64_t total_ = 0;
  bool ended_ = false;
};

// What the decoders share: limits, and errors that stay.
class Decoder : public ByteReader {
 public:
  Decoder(Source source, const DecompressLimits& limits, std::uint64_t output_before)
      : source_(std::move(source)),
        limits_(limits),
        room_(limits.output - std::min(limits.output, output_before)) {}

  Result<std::size_t> read(std::span<std::byte> buffer) final {
    if (failure_) return *failure_;
    if (ended_ || buffer.empty()) return std::size_t{0};
    auto result = limited(buffer);
    if (!result) failure_ = result.error();
    return result;
  }

 protected:
  // Fills the front of `buffer`, which is not empty; 0 at the end of the stream.
  virtual Result<std::size_t> decode(std::span<std::byte> buffer) = 0;

  Source source_;

 private:
  Result<std::size_t> limited(std::span<std::byte> buffer) {
    // One byte beyond the limit is asked for, to tell "just so much" from "more".
    const std::uint64_t room = room_ - output_;
    if (room < buffer.size()) buffer = buffer.first(static_cast<std::size_t>(room) + 1);
    IMSY_TRY_ASSIGN(const std::size_t got, decode(buffer));
    ended_ = got == 0;
    if (got > room) {
      const bool alone = room_ == limits_.output;
      return Error(Errc::kInvalid, "the content is larger than the limit of " +
                                       std::to_string(limits_.output) + " bytes when decompressed" +
                                       (alone ? "" : ", together with what came before it"));
    }
    output_ += got;
    if (output_ > kRatioFrom && output_ / limits_.ratio > source_.consumed()) {
      return Error(Errc::kInvalid, "the content grows more than the limit of " +
                                       std::to_string(limits_.ratio) +
                                       " times when decompressed; it is refused as a bomb");
    }
    return got;
  }

  const DecompressLimits limits_;
  const std::uint64_t room_;  // for all output
  std::uint64_t output_ = 0;
  bool ended_ = false;
  std::optional<Error> failure_;
};

class PlainReader final : public Decoder {
 public:
  using Decoder::Decoder;

 private:
  Result<std::size_t> decode(std::span<std::byte> buffer) override { return source_.read(buffer); }
};

// Gzip members one behind the other. The member's header is read here, since ISA-L loses track of
// one that arrives in pieces; ISA-L inflates and checks the trailer.
class GzipReader final : public Decoder {
 public:
  using Decoder::Decoder;

 private:
  Result<std::size_t> decode(std::span<std::byte> buffer) override {
    for (;;) {
      IMSY_TRY(source_.fill(1));
      if (!in_member_) {
        if (source_.available().empty()) return std::size_t{0};
        IMSY_TRY(start_member());
      }
      IMSY_TRY_ASSIGN(const std::size_t produced, inflate(buffer));
      if (produced > 0) return produced;
    }
  }

  Status start_member();
  Result<std::size_t> inflate(std::span<std::byte> buffer);
  Result<std::uint8_t> header_byte();
  Status skip_string();

  inflate_state state_{};
  bool in_member_ = false;
  std::uint32_t header_crc_ = 0;
};

Result<std::uint8_t> GzipReader::header_byte() {
  IMSY_TRY(source_.fill(1));
  if (source_.available().empty()) return corrupt("gzip: the stream ends in a member's header");
  const auto byte = std::to_integer<std::uint8_t>(source_.available()[0]);
  header_crc_ = crc32_gzip_refl(header_crc_, &byte, 1);
  source_.consume(1);
  return byte;
}

// A text up to its NUL. Longer ones are refused because Go's reader refuses them.
Status GzipReader::skip_string() {
  for (int left = 512; left > 0; --left) {
    IMSY_TRY_ASSIGN(const std::uint8_t byte, header_byte());
    if (byte == 0) return {};
  }
  return corrupt("gzip: a name or comment in a member's header is too long");
}

Status GzipReader::start_member() {
  enum : std::uint8_t {
    kHeaderCrc = 2,
    kExtra = 4,
    kFileName = 8,
    kComment = 16,
    kReserved = 0xe0
  };
  header_crc_ = 0;
  std::array<std::uint8_t, 10> fixed{};
  for (auto& byte : fixed) {
    IMSY_TRY_ASSIGN(byte, header_byte());
    if (&byte == &fixed[1] && (fixed[0] != 0x1f || fixed[1] != 0x8b)) {
      return corrupt("gzip: junk behind the last member");
    }
  }
  const std::uint8_t flags = fixed[3];
  if (fixed[2] != 8 || (flags & kReserved) != 0) {
    return corrupt("gzip: unknown method or flags in a member's header");
  }
  if ((flags & kExtra) != 0) {
    IMSY_TRY_ASSIGN(const std::size_t low, header_byte());
    IMSY_TRY_ASSIGN(const std::size_t high, header_byte());
    for (std::size_t left = low + 256 * high; left > 0; --left) IMSY_TRY(header_byte());
  }
  if ((flags & kFileName) != 0) IMSY_TRY(skip_string());
  if ((flags & kComment) != 0) IMSY_TRY(skip_string());
  if ((flags & kHeaderCrc) != 0) {
    const std::uint32_t expected = header_crc_ & 0xffff;
    IMSY_TRY_ASSIGN(const std::uint32_t low, header_byte());
    IMSY_TRY_ASSIGN(const std::uint32_t high, header_byte());
    if (low + 256 * high != expected) return corrupt("gzip: wrong checksum of a member's header");
  }
  isal_inflate_init(&state_);
  state_.crc_flag = ISAL_GZIP_NO_HDR_VER;
  in_member_ = true;
  return {};
}

// One step: some output, or some progress. kCorrupt when there is neither.
Result<std::size_t> GzipReader::inflate(std::span<std::byte> buffer) {
  IMSY_TRY(source_.fill(1));
  const ByteSpan in = source_.available();
  const auto room = static_cast<std::uint32_t>(std::min(buffer.size(), kOutputStep));
  // ISA-L does not write through next_in, it only lacks the const.
  state_.next_in = reinterpret_cast<std::uint8_t*>(const_cast<std::byte*>(in.data()));
  state_.avail_in = static_cast<std::uint32_t>(in.size());
  state_.next_out = reinterpret_cast<std::uint8_t*>(buffer.data());
  state_.avail_out = room;
  const int code = isal_inflate(&state_);
  const std::size_t used = in.size() - state_.avail_in;
  const std::size_t produced = room - state_.avail_out;
  source_.consume(used);
  if (code == ISAL_INCORRECT_CHECKSUM) {
    return corrupt("gzip: the content does not match its checksum or size");
  }
  if (code != ISAL_DECOMP_OK) return corrupt("gzip: the compressed data is malformed");
  if (state_.block_state == ISAL_BLOCK_FINISH) {
    in_member_ = false;
  } else if (in.empty() && produced == 0) {
    return corrupt("gzip: the stream ends in the middle of a member");
  } else if (used == 0 && produced == 0) {
    return Error(Errc::kInternal, "gzip: the decoder makes no progress");
  }
  return produced;
}

// Zstd frames one behind the other, skippable ones among them.
class ZstdReader final : public Decoder {
 public:
  using Decoder::Decoder;

  Status start() {
    context_.reset(ZSTD_createDCtx());
    if (!context_) return Error(Errc::kInternal, "zstd: out of memory");
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kZstdWindowLogMax);
    return {};
  }

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };

  Result<std::size_t> decode(std::span<std::byte> buffer) override;
  Result<bool> start_frame();

  std::unique_ptr<ZSTD_DCtx, Free> context_;
  bool in_frame_ = false;
  bool frame_begun_ = false;  // something of the frame was given to the library
};

// Looks at the magic of the next frame; false at the end of the stream. The library is not left to
// judge it, since it may be built to know formats older than RFC 8878.
Result<bool> ZstdReader::start_frame() {
  IMSY_TRY(source_.fill(sizeof(std::uint32_t)));
  const ByteSpan in = source_.available();
  if (in.empty()) return false;
  if (in.size() < sizeof(std::uint32_t))
    return corrupt("zstd: the stream ends in a frame's header");
  const auto magic = load_le<std::uint32_t>(in.data());
  if (magic != kZstdFrame && !is_skippable(magic)) {
    return corrupt("zstd: junk behind the last frame");
  }
  in_frame_ = true;
  frame_begun_ = false;
  return true;
}

Result<std::size_t> ZstdReader::decode(std::span<std::byte> buffer) {
  for (;;) {
    if (!in_frame_) {
      IMSY_TRY_ASSIGN(const bool more, start_frame());
      if (!more) return std::size_t{0};
    }
    IMSY_TRY(source_.fill(1));
    ByteSpan available = source_.available();
    // A frame that is there as a whole would go to another decoder of the library, which refuses
    // more than this one: whether a layer is good must not depend on how it arrives.
    if (!frame_begun_) available = available.first(std::min(available.size(), kZstdFirstBytes));
    frame_begun_ = true;
    ZSTD_inBuffer in{available.data(), available.size(), 0};
    ZSTD_outBuffer out{buffer.data(), buffer.size(), 0};
    const std::size_t code = ZSTD_decompressStream(context_.get(), &out, &in);
    source_.consume(in.pos);
    if (ZSTD_isError(code) != 0) {
      return corrupt(std::string("zstd: ") + ZSTD_getErrorName(code));
    }
    in_frame_ = code != 0;
    if (out.pos > 0) return out.pos;
    if (in_frame_ && available.empty()) {
      return corrupt("zstd: the stream ends in the middle of a frame");
    }
  }
}

}  // namespace

Compression detect_compression(ByteSpan head) {
  const auto starts_with = [&](std::initializer_list<std::uint8_t> magic) {
    return head.size() >= magic.size() &&
           std::equal(magic.begin(), magic.end(), head.begin(),
                      [](std::uint8_t a, std::byte b) { return std::byte{a} == b; });
  };
  if (starts_with({0x1f, 0x8b, 0x08})) return Compression::kGzip;
  if (head.size() < sizeof(std::uint32_t)) return Compression::kNone;
  const auto magic = load_le<std::uint32_t>(head.data());
  return magic == kZstdFrame || is_skippable(magic) ? Compression::kZstd : Compression::kNone;
}

std::string_view name_of(Compression compression) {
  switch (compression) {
    case Compression::kNone: return "plain";
    case Compression::kGzip: return "gzip";
    case Compression::kZstd: return "zstd";
  }
  return "unknown";
}

Result<Decompressed> decompress(ByteReader& input, const DecompressLimits& limits,
                                std::uint64_t output_before) {
  if (limits.ratio == 0) return Error(Errc::kInvalid, "decompress: the limit of the ratio is 0");
  Source source(input);
  IMSY_TRY(source.fill(sizeof(std::uint32_t)));
  Decompressed result;
  result.found = detect_compression(source.available());
  switch (result.found) {
    case Compression::kNone:
      result.content = std::make_unique<PlainReader>(std::move(source), limits, output_before);
      break;
    case Compression::kGzip:
      result.content = std::make_unique<GzipReader>(std::move(source), limits, output_before);
      break;
    case Compression::kZstd: {
      auto reader = std::make_unique<ZstdReader>(std::move(source), limits, output_before);
      IMSY_TRY(reader->start());
      result.content = std::move(reader);
      break;
    }
  }
  return result;
}

}  // namespace imsy::oci
