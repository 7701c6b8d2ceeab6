// Decompressing readers for layers: gzip (ISA-L, any number of members), zstd, plain.
//
// Strict: a truncated stream, a wrong CRC or size, junk after the last gzip member, a zstd
// dictionary or a window above 2^27 are kCorrupt. Skippable zstd frames are skipped. Memory is
// bounded: 1 MiB of input, and for zstd the window, which takes those 2^27 bytes at most.
// Threads: a reader belongs to one thread; read() waits for the input.
// Source: RFC 1952, RFC 8878. What is refused beyond them: docs/format/tar.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "common/stream.h"

namespace imsy::oci {

enum class Compression { kNone, kGzip, kZstd };

// By the first bytes (at least 4, when the stream has them); media types may lie.
Compression detect_compression(ByteSpan head);

// "plain", "gzip" or "zstd", for messages.
std::string_view name_of(Compression compression);

// More than one of these is kInvalid.
struct DecompressLimits {
  std::uint64_t output = std::uint64_t{1} << 40;  // bytes
  std::uint64_t ratio = 1000;  // output : input, checked after the first 64 MiB of output
};

struct Decompressed {
  Compression found = Compression::kNone;
  std::unique_ptr<ByteReader> content;
};

// Reads `input`, finds its compression by its first bytes, and gives the plain stream. Reads
// `input` to its end before it reports its own end; what was given out before an error is not to be
// trusted. `input` must outlive the result. May wait for the input's first bytes. An error of the
// input is passed on as it is, and a reader that has failed stays failed.
// `output_before`: bytes that count towards the limit too, of other streams that belong to the same
// thing.
Result<Decompressed> decompress(ByteReader& input, const DecompressLimits& limits = {},
                                std::uint64_t output_before = 0);

}  // namespace imsy::oci
