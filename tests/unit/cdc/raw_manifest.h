// RawManifest: a CDC manifest taken apart, so that a test can make any field wrong and put it
// together again with all digests and sizes right: then only the intended defect is left to find.
//
// Follows docs/format/cdc-manifest.md on its own; it shares nothing but the varints with the code
// under test. Used by the unit tests and by tests/fuzz/manifest_fuzz.cc.
// Threads: plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cdc/anchor.h"
#include "common/bytes.h"

namespace imsy::test {

// Kinds of sections, and their columns in order.
inline constexpr std::uint32_t kTree = 16;
inline constexpr std::uint32_t kObjects = 32;
inline constexpr std::uint32_t kChunks = 48;
inline constexpr std::uint32_t kFrames = 64;
enum TreeColumn : std::size_t {
  kCounts,
  kNames,
  kModes,
  kUids,
  kGids,
  kSeconds,
  kNanoseconds,
  kTimeOfInode,
  kChildren,
  kLinks,
  kObjectOfInode,
  kObjectSizes,
  kTargets,
  kDevices,
  kXattrSets,
  kXattrCounts,
  kXattrNames,
  kXattrValueSizes,
  kXattrValues,
};
enum ObjectsColumn : std::size_t { kChunkCounts, kRawOffsets };
enum ChunksColumn : std::size_t { kLengths };
enum FramesColumn : std::size_t { kFramesOfLayer, kRawSizes, kStoredSizes };

struct RawSection {
  std::uint32_t kind = 0;
  std::uint32_t flags = 1;
  std::vector<Bytes> columns;
  Bytes tail;  // behind the last column, inside the frame
  Bytes plain;
  std::optional<Bytes> stored;  // instead of all that

  void numbers(std::size_t column, const std::function<void(std::vector<std::uint64_t>&)>& change);
  void texts(std::size_t column, const std::function<void(std::vector<std::string>&)>& change);
};

// A row of the section table.
struct RawRow {
  std::uint32_t kind = 0;
  std::uint32_t flags = 0;
  std::uint64_t offset = 0;
  std::uint64_t stored_size = 0;
  std::uint64_t raw_size = 0;
  Digest digest;
};

struct RawManifest {
  std::string magic = "IMSYCDC\n";
  std::uint32_t version = 1;
  std::optional<std::uint32_t> section_count;  // when it is not the truth
  std::uint32_t algorithm = 0;
  std::uint32_t size_min = 0;
  std::uint32_t size_avg = 0;
  std::uint32_t size_max = 0;
  std::uint64_t content_size = 0;
  std::vector<RawSection> sections;
  Bytes header_tail;  // behind the table, inside the header
  Bytes tail;         // behind the last section
  std::function<void(std::vector<RawRow>&)> change_table;

  RawSection& section(std::uint32_t kind);
};

// Takes a well-formed manifest apart.
RawManifest take_apart(ByteSpan manifest);

struct PutTogether {
  Bytes bytes;
  cdc::Anchor anchor;
};
// `anchor` gives the data layers and where the manifest lies; the rest is computed.
PutTogether put_together(const RawManifest& raw, const cdc::Anchor& anchor);

std::vector<std::uint64_t> numbers_of(const Bytes& column);
Bytes column_of(const std::vector<std::uint64_t>& numbers);

}  // namespace imsy::test
