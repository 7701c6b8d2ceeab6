#include "snapshotter/types.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace imsy::snapshotter {

std::string_view to_string(Kind kind) {
  switch (kind) {
    case Kind::kView: return "view";
    case Kind::kActive: return "active";
    case Kind::kCommitted: return "committed";
  }
  return "";
}

std::string_view find_label(const Labels& labels, std::string_view key) {
  const auto found = labels.find(std::string(key));
  return found == labels.end() ? std::string_view() : std::string_view(found->second);
}

std::optional<std::uint32_t> mapped_root(std::string_view mapping) {
  while (!mapping.empty()) {
    const std::string_view entry = mapping.substr(0, mapping.find(','));
    mapping.remove_prefix(std::min(mapping.size(), entry.size() + 1));
    std::array<std::uint32_t, 3> numbers = {};  // in the container, on the host, how many
    const char* at = entry.data();
    const char* const end = entry.data() + entry.size();
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const auto [next, error] = std::from_chars(at, end, numbers[i]);
      const bool last = i + 1 == numbers.size();
      if (error != std::errc() || (last ? next != end : next == end || *next != ':')) {
        return std::nullopt;
      }
      at = next + 1;
    }
    if (numbers[0] == 0 && numbers[2] > 0) return numbers[1];
  }
  return std::nullopt;
}

}  // namespace imsy::snapshotter
