// Chunker: content-defined chunking of one file (FastCDC, normalised).
//
// A cut is a pure function of the bytes and the parameters: the same file gives the same chunks
// wherever it is read and however the reads are split.
// Source: W. Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
// Storage Systems", IEEE TPDS 2020; two bytes per step, normalisation level 2, high bits of a
// 64-bit gear. The exact function is docs/format/chunker.md; it is frozen by its algorithm number.
// Threads: free functions on plain data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"

namespace imsy::cdc {

enum class ChunkerAlgorithm : std::uint8_t { kFastCdc1 = 1 };

struct ChunkerParameters {
  ChunkerAlgorithm algorithm = ChunkerAlgorithm::kFastCdc1;
  std::uint32_t size_min = 16u << 10;
  std::uint32_t size_avg = 64u << 10;  // a power of two
  std::uint32_t size_max = 256u << 10;
  bool operator==(const ChunkerParameters&) const = default;
};

// kInvalid unless 64 <= min <= avg <= max <= 16 MiB, avg a power of two, and the algorithm known.
Status validate(const ChunkerParameters& parameters);

class Chunker {
 public:
  // `parameters` must be valid.
  explicit Chunker(const ChunkerParameters& parameters = {});

  // Length of the first chunk of `data`. When `data` is not the rest of the file, it must be at
  // least size_max bytes long. 0 only for empty data.
  std::size_t next(ByteSpan data) const;

  const ChunkerParameters& parameters() const { return parameters_; }

 private:
  ChunkerParameters parameters_;
  std::uint64_t mask_small_;  // more bits: before the average
  std::uint64_t mask_large_;  // fewer bits: behind it
};

// The lengths of all chunks of a whole file.
std::vector<std::uint32_t> chunk_lengths(const Chunker& chunker, ByteSpan file);

}  // namespace imsy::cdc
