#include "snapshotter/types.h"

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

}  // namespace imsy::snapshotter
