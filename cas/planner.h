// Planner: what to ask for in one request. Pure; for the engine, and for those who foretell what it
// will do. docs/fetching.md explains the model.
//
//   * A chunk that another object has is copied. A frame that is fetched brings all its chunks, so
//     a fill copies only where that spares the whole frame.
//   * Frames share a request when the bytes between them cost no more than another request.
//   * A request is so long that it keeps the link busy, and so short that who waits for its last
//     frame, or for the link, does not wait long.
//   * Where next to nothing of a blob is left out, the whole is asked for.
// Threads: free functions on plain values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cas/cost.h"
#include "cdc/manifest.h"

namespace imsy::cas {

// Stored bytes, at most; measurements make them smaller.
struct PlanLimits {
  std::uint64_t gap = 64u << 10;        // between two frames of one request
  std::uint64_t demand_run = 1u << 20;  // of a request for readers
  std::uint64_t fill_run = 8u << 20;    // of one in the background
};
PlanLimits limits_for_demand(const Cost& cost, PlanLimits most);
// `readers_about`: somebody has waited for bytes of the place lately. `rate`: bytes/s that the
// background may use; 0: all.
PlanLimits limits_for_fill(const Cost& cost, PlanLimits most, bool readers_about,
                           std::uint64_t rate);

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

// Whether the blob is asked for whole, to get bytes [begin, end) of it.
bool takes_whole(std::uint64_t begin, std::uint64_t end, std::uint64_t blob_size,
                 std::uint64_t gap_max);

}  // namespace imsy::cas
