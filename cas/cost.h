// Cost: what one request to a place costs, as far as it has been measured.
//
// Threads: plain values.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

namespace imsy::cas {

struct Cost {
  std::optional<std::chrono::microseconds> round_trip;
  std::optional<std::uint64_t> bandwidth;  // bytes/s

  // How long so many bytes take; nothing as long as it is not known.
  std::optional<std::chrono::microseconds> time_of(std::uint64_t bytes) const {
    if (!bandwidth) return std::nullopt;
    const std::chrono::duration<double> time(
        static_cast<double>(bytes) / static_cast<double>(std::max<std::uint64_t>(1, *bandwidth)));
    return std::chrono::duration_cast<std::chrono::microseconds>(
        std::min(time, std::chrono::duration<double>(1e6)));
  }
};

}  // namespace imsy::cas
