// Traffic: what went over the wire, by place and by what it was for.
//
// A place is one repository at one host. What a registry leads elsewhere, to storage or to a token
// server, is counted where it began.
// Threads: all methods from any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "common/mutex.h"

namespace imsy::oci {

enum class Purpose {
  kDemand,      // content for readers
  kStartup,     // content for the start-up profile
  kBackground,  // content for the background fill
  kManifest,    // a CDC manifest
  kLocate,      // whether a place has an image
  kLogin,       // a token
  kOther,       // all that conversion and imsy ask for
};

// "demand", "startup", "background", "manifest", "locate", "login", "other".
std::string_view name_of(Purpose purpose);

struct WireSum {
  std::uint64_t requests = 0;
  std::uint64_t bytes = 0;  // received, headers included
};
using PlaceTraffic = std::map<Purpose, WireSum>;  // what was used
using TrafficByPlace = std::map<std::string, PlaceTraffic>;

// The counts of one place.
class PlaceCounts {
 public:
  void asked(Purpose purpose);
  void received(Purpose purpose, std::uint64_t bytes);
  PlaceTraffic read() const;

 private:
  mutable Mutex mu_;
  PlaceTraffic sums_ IMSY_GUARDED_BY(mu_);
};

class Traffic {
 public:
  // Places beyond these are counted as one, named "others".
  static constexpr std::size_t kPlacesMax = 256;

  // Never null; the same for the same name.
  std::shared_ptr<PlaceCounts> at(const std::string& place);
  // Of places that were asked.
  TrafficByPlace read() const;

 private:
  mutable Mutex mu_;
  std::map<std::string, std::shared_ptr<PlaceCounts>> places_ IMSY_GUARDED_BY(mu_);
};

}  // namespace imsy::oci
