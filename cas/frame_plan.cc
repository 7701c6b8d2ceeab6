#include "cas/frame_plan.h"

namespace imsy::cas {

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

}  // namespace imsy::cas
