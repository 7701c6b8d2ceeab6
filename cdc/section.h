// Section: one part of a CDC manifest as stored, and its two halves. Internal to cdc.
//
//   packed size (64 bit, little endian) || columns in one zstd frame || plain bytes
//
// The plain bytes are digests, which do not compress. docs/format/cdc-manifest.md.
// Threads: free functions on plain data.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/bytes.h"
#include "common/result.h"

namespace imsy::cdc {

inline constexpr std::size_t kSectionPrefix = 8;  // bytes of the packed size
// A frame expands at most this much, the first kSectionFree bytes not counted: a small download
// must not claim all memory. Honest trees reach about 30.
inline constexpr std::uint64_t kSectionRatio = 256;
inline constexpr std::uint64_t kSectionFree = 64u << 20;

struct SectionContent {
  Bytes columns;
  Bytes plain;
};

// The section as stored. Deterministic for a zstd version.
Bytes pack_section(const SectionContent& content);

struct SectionView {
  Bytes columns;
  ByteSpan plain;  // into the stored bytes
};

// kCorrupt unless `stored` is a section whose columns are `raw_size` bytes long. The caller has
// checked raw_size against its limits; that much is allocated.
Result<SectionView> unpack_section(ByteSpan stored, std::uint64_t raw_size);

}  // namespace imsy::cdc
