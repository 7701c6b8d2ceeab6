#include "cas/frame_plan.h"

namespace imsy::cas {

std::vector<FrameRun> plan_runs(const cdc::Objects& objects, std::span<const std::uint32_t> frames,
                                std::uint64_t gap_max, std::uint64_t span) {
  std::vector<FrameRun> runs;
  for (const std::uint32_t index : frames) {
    const cdc::Frame& frame = objects.frame(index);
    if (!runs.empty()) {
      const cdc::Frame& first = objects.frame(runs.back().first);
      const cdc::Frame& last = objects.frame(runs.back().last);
      const std::uint64_t end = last.stored_offset + last.stored_size;
      const std::uint64_t whole = frame.stored_offset + frame.stored_size - first.stored_offset;
      if (frame.layer == last.layer && frame.stored_offset - end <= gap_max && whole <= span) {
        runs.back().last = index;
        continue;
      }
    }
    runs.push_back({index, index});
  }
  return runs;
}

}  // namespace imsy::cas
