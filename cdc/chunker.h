// Chunker: content-defined chunking of one file, at the speed of memory.
//
// Promises
//   * A cut is a pure function of the parameters and the bytes of the chunk that it ends: the same
//     file gives the same chunks wherever it is read and however the reads are split.
//   * Chunks are at most size_max bytes long, and at least size_min except the last one of a file.
//   * Runs of one byte (zeros!) give chunks of size_max.
// Two stages: a filter over the last four bytes, which vector instructions apply to 64 positions at
// once, and a hash of the last 32 bytes for the few positions that pass. Minimum, normalisation and
// maximum are those of FastCDC (W. Xia et al., "The Design of Fast Content-Defined Chunking for
// Data Deduplication Based Storage Systems", IEEE TPDS 2020). The exact function is
// docs/format/chunker.md; it is frozen by its algorithm number.
// Threads: plain values; const methods from any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"

namespace imsy::cdc {

enum class ChunkerAlgorithm : std::uint8_t { kTwoStage = 1 };

struct ChunkerParameters {
  ChunkerAlgorithm algorithm = ChunkerAlgorithm::kTwoStage;
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

  // Length in bytes of the first chunk of `data`. When `data` is not the rest of the file, it must
  // be at least size_max bytes long. 0 only for empty data.
  std::size_t next(ByteSpan data) const;

  const ChunkerParameters& parameters() const { return parameters_; }

 private:
  ChunkerParameters parameters_;
  std::uint16_t limit_;       // of the filter
  std::uint64_t mask_early_;  // up to the average: more bits, so that a cut is less likely
  std::uint64_t mask_late_;   // behind it: fewer bits
};

// The lengths in bytes of all chunks of a whole file, in order; none for an empty file.
std::vector<std::uint32_t> chunk_lengths(const Chunker& chunker, ByteSpan file);

}  // namespace imsy::cdc
