// Plans: every wanted frame is asked for exactly once, and no request exceeds its limits.

#include <cstdint>
#include <cstring>
#include <vector>

#include "cas/planner.h"
#include "tests/support/image_maker.h"

namespace {

void demand(bool right) {
  if (!right) __builtin_trap();
}

imsy::test::MadeImage make() {
  imsy::test::ImageMaker maker;
  maker.frame_target(2'000);
  for (unsigned i = 0; i < 60; ++i) {
    maker.file(std::to_string(i), imsy::test::random_bytes(100 + i * 97, i));
  }
  return maker.layers(3).make();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace imsy::cas;
  static const auto image = make();
  const auto& objects = image.manifest->objects();
  std::uint64_t numbers[6] = {};
  if (size < sizeof(numbers)) return 0;
  std::memcpy(numbers, data, sizeof(numbers));
  const Cost cost{std::chrono::microseconds(static_cast<std::int64_t>(numbers[0] >> 1)),
                  numbers[1]};
  const PlanLimits most{numbers[2], numbers[3], numbers[4]};
  const PlanLimits demand_limits = limits_for_demand(cost, most);
  const PlanLimits fill_limits = limits_for_fill(cost, most, numbers[5] % 2 == 0, numbers[5] / 2);
  demand(demand_limits.gap <= most.gap && demand_limits.demand_run <= most.demand_run);
  demand(fill_limits.gap <= most.gap && fill_limits.fill_run <= most.fill_run);

  std::vector<std::uint32_t> wanted;
  for (std::uint32_t f = 0; f < objects.frame_count(); ++f) {
    const std::size_t byte = sizeof(numbers) + f / 8;
    if (byte < size && (data[byte] >> (f % 8) & 1) != 0) wanted.push_back(f);
  }
  std::size_t next = 0;
  for (const FrameRun& run : plan_runs(objects, wanted, fill_limits.gap, fill_limits.fill_run)) {
    demand(next < wanted.size() && run.first == wanted[next] && run.first <= run.last);
    std::uint64_t end = objects.frame(run.first).stored_offset;
    for (; next < wanted.size() && wanted[next] <= run.last; ++next) {
      const auto& frame = objects.frame(wanted[next]);
      demand(frame.layer == objects.frame(run.first).layer);
      demand(frame.stored_offset - end <= fill_limits.gap);
      end = frame.stored_offset + frame.stored_size;
    }
    demand(wanted[next - 1] == run.last);
    const std::uint64_t length = end - objects.frame(run.first).stored_offset;
    demand(length <= fill_limits.fill_run || run.first == run.last);
  }
  demand(next == wanted.size());
  return 0;
}
