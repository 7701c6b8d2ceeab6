#include "snapshotter/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <random>

namespace imsy::snapshotter {
namespace {

// "00-<trace: 32>-<parent: 16>-<flags: 2>"; a later version may have more behind that.
constexpr std::size_t kLength = 55;
constexpr std::size_t kTraceAt = 3;
constexpr std::size_t kTraceLength = 32;

bool is_lower_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

}  // namespace

std::string trace_of(std::string_view traceparent) {
  if (traceparent.size() < kLength ||
      (traceparent.size() > kLength && traceparent[kLength] != '-')) {
    return "";
  }
  for (std::size_t i = 0; i < kLength; ++i) {
    const bool dash = i == 2 || i == 35 || i == 52;
    if (dash ? traceparent[i] != '-' : !is_lower_hex(traceparent[i])) return "";
  }
  const std::string_view version = traceparent.substr(0, 2);
  if (version == "ff" || (version == "00" && traceparent.size() != kLength)) return "";
  const std::string_view trace = traceparent.substr(kTraceAt, kTraceLength);
  if (std::ranges::all_of(trace, [](char c) { return c == '0'; })) return "";
  return std::string(trace);
}

std::string new_trace() {
  thread_local std::mt19937_64 random(std::random_device{}());
  std::uint64_t high = 0;
  while (high == 0) high = random();  // all zeros are no id
  return fmt::format("{:016x}{:016x}", high, random());
}

}  // namespace imsy::snapshotter
