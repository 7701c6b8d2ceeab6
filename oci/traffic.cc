#include "oci/traffic.h"

#include <utility>

namespace imsy::oci {

std::string_view name_of(Purpose purpose) {
  switch (purpose) {
    case Purpose::kDemand: return "demand";
    case Purpose::kStartup: return "startup";
    case Purpose::kBackground: return "background";
    case Purpose::kManifest: return "manifest";
    case Purpose::kLocate: return "locate";
    case Purpose::kLogin: return "login";
    case Purpose::kOther: return "other";
  }
  return "other";
}

void PlaceCounts::asked(Purpose purpose) {
  const MutexLock lock(mu_);
  ++sums_[purpose].requests;
}

void PlaceCounts::received(Purpose purpose, std::uint64_t bytes) {
  const MutexLock lock(mu_);
  sums_[purpose].bytes += bytes;
}

PlaceTraffic PlaceCounts::read() const {
  const MutexLock lock(mu_);
  return sums_;
}

std::shared_ptr<PlaceCounts> Traffic::at(const std::string& place) {
  const MutexLock lock(mu_);
  const bool known = places_.contains(place) || places_.size() < kPlacesMax;
  auto& counts = places_[known ? place : "others"];
  if (counts == nullptr) counts = std::make_shared<PlaceCounts>();
  return counts;
}

TrafficByPlace Traffic::read() const {
  const MutexLock lock(mu_);
  TrafficByPlace traffic;
  for (const auto& [place, counts] : places_) {
    if (auto sums = counts->read(); !sums.empty()) traffic.emplace(place, std::move(sums));
  }
  return traffic;
}

}  // namespace imsy::oci
