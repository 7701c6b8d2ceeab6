// Traffic: what was asked of each place and what it gave, by what it was for.
//
// Threads: all methods from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "cas/dispatch.h"
#include "common/mutex.h"

namespace imsy::cas {

struct PlaceTraffic {
  struct Sum {
    std::uint64_t requests = 0;
    std::uint64_t bytes = 0;  // stored bytes, also wrong ones and those between frames
  };
  Sum demand;      // for readers
  Sum startup;     // for what will soon be read
  Sum background;  // for the background fill
};
using TrafficByPlace = std::map<std::string, PlaceTraffic>;

class Traffic {
 public:
  // Places beyond these are counted as one, named "others".
  static constexpr std::size_t kPlacesMax = 256;

  void asked(const std::string& place, Purpose purpose) {
    MutexLock lock(mu_);
    ++sum(place, purpose).requests;
  }
  void gave(const std::string& place, Purpose purpose, std::uint64_t bytes) {
    MutexLock lock(mu_);
    sum(place, purpose).bytes += bytes;
  }
  TrafficByPlace read() const {
    MutexLock lock(mu_);
    return places_;
  }

 private:
  PlaceTraffic::Sum& sum(const std::string& place, Purpose purpose) IMSY_REQUIRES(mu_) {
    const bool known = places_.contains(place) || places_.size() < kPlacesMax;
    PlaceTraffic& traffic = places_[known ? place : "others"];
    if (purpose == Purpose::kDemand) return traffic.demand;
    return purpose == Purpose::kStartup ? traffic.startup : traffic.background;
  }

  mutable Mutex mu_;
  TrafficByPlace places_ IMSY_GUARDED_BY(mu_);
};

}  // namespace imsy::cas
