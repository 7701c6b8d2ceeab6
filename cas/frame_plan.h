// Which byte ranges to ask for, given the frames that are wanted. For the engine, and for those who
// foretell what it will do.
//
// The cost model: a request costs about as much as `gap_max` stored bytes, so frames whose gap is
// not larger share a request; one request is at most `span` bytes, so that its first chunk is not
// kept waiting for its last.
// Threads: free functions on plain values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cdc/manifest.h"

namespace imsy::cas {

// Frames [first, last] of one data layer, fetched with one request.
struct FrameRun {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};

// Whether `frame`, behind the run, is to be fetched with it.
bool joins(const cdc::Objects& objects, const FrameRun& run, std::uint32_t frame,
           std::uint64_t gap_max, std::uint64_t span);

// `frames`: indexes in ascending order, without repetition. A single frame may exceed `span`.
std::vector<FrameRun> plan_runs(const cdc::Objects& objects, std::span<const std::uint32_t> frames,
                                std::uint64_t gap_max, std::uint64_t span);

}  // namespace imsy::cas
