#include "cas/planner.h"

#include <algorithm>
#include <chrono>

namespace imsy::cas {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// Requests that share the link: each costs that part of a round trip.
constexpr std::uint64_t kSharing = 4;
constexpr std::uint64_t kGapMin = 16u << 10;
constexpr std::uint64_t kWholePart = 16;  // of a blob, that may come without need
constexpr milliseconds kDemandTime{50};
constexpr std::uint64_t kDemandMin = 256u << 10;
constexpr milliseconds kFillTime{250};  // while readers are about
constexpr std::uint64_t kFillMin = 1u << 20;
constexpr std::uint64_t kFillMax = 4u << 20;
constexpr std::uint64_t kLimitedMin = 256u << 10;

// As floating point, since what a server seems to do has no bounds.
std::uint64_t bytes_in(microseconds time, std::uint64_t bandwidth, std::uint64_t least,
                       std::uint64_t most) {
  const double bytes = std::chrono::duration<double>(time).count() * static_cast<double>(bandwidth);
  if (bytes >= static_cast<double>(most)) return most;
  return std::clamp(static_cast<std::uint64_t>(std::max(0.0, bytes)), std::min(least, most), most);
}

std::uint64_t gap_for(const Cost& cost, std::uint64_t most) {
  if (!cost.round_trip || !cost.bandwidth) return most;
  return bytes_in(*cost.round_trip / kSharing, *cost.bandwidth, kGapMin, most);
}

}  // namespace

PlanLimits limits_for_demand(const Cost& cost, PlanLimits most) {
  most.gap = gap_for(cost, most.gap);
  if (cost.bandwidth) {
    most.demand_run = bytes_in(kDemandTime, *cost.bandwidth, kDemandMin, most.demand_run);
  }
  return most;
}

PlanLimits limits_for_fill(const Cost& cost, PlanLimits most, bool readers_about,
                           std::uint64_t rate) {
  most.gap = gap_for(cost, most.gap);
  if (readers_about) {
    most.fill_run = std::min(most.fill_run, kFillMax);
    if (cost.bandwidth)
      most.fill_run = bytes_in(kFillTime, *cost.bandwidth, kFillMin, most.fill_run);
  }
  if (rate != 0) most.fill_run = std::min(most.fill_run, std::max(rate, kLimitedMin));
  return most;
}

bool joins(const cdc::Objects& objects, const FrameRun& run, std::uint32_t frame,
           std::uint64_t gap_max, std::uint64_t span) {
  const cdc::Frame& first = objects.frame(run.first);
  const cdc::Frame& last = objects.frame(run.last);
  const cdc::Frame& next = objects.frame(frame);
  if (next.layer != last.layer) return false;
  const std::uint64_t end = last.stored_offset + last.stored_size;
  return next.stored_offset - end <= gap_max &&
         next.stored_offset + next.stored_size - first.stored_offset <= span;
}

std::vector<FrameRun> plan_runs(const cdc::Objects& objects, std::span<const std::uint32_t> frames,
                                std::uint64_t gap_max, std::uint64_t span) {
  std::vector<FrameRun> runs;
  for (const std::uint32_t frame : frames) {
    if (!runs.empty() && joins(objects, runs.back(), frame, gap_max, span)) {
      runs.back().last = frame;
    } else {
      runs.push_back({frame, frame});
    }
  }
  return runs;
}

bool takes_whole(std::uint64_t begin, std::uint64_t end, std::uint64_t blob_size,
                 std::uint64_t gap_max) {
  if (end > blob_size || begin > end) return false;
  return blob_size - (end - begin) <= std::min(gap_max, blob_size / kWholePart);
}

}  // namespace imsy::cas
