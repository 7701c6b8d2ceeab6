#include "snapshotter/stats.h"

#include "common/io.h"
#include "oci/descriptor.h"

namespace imsy::snapshotter {
namespace {

oci::Json json_of(const oci::PlaceTraffic& traffic) {
  oci::Json json = oci::Json::object();
  for (const auto& [purpose, sum] : traffic) {
    json[std::string(name_of(purpose))] = {{"requests", sum.requests}, {"bytes", sum.bytes}};
  }
  return json;
}

}  // namespace

std::string Stats::to_json() const {
  oci::Json list = oci::Json::array();
  for (const auto& image : images) {
    list.push_back({{"manifest", image.manifest.to_string()},
                    {"slot", image.slot},
                    {"resident", image.resident},
                    {"objects", image.objects}});
  }
  oci::Json places = oci::Json::object();
  for (const auto& [place, one] : traffic) {
    places[place] = json_of(one);
  }
  const oci::Json json = {
      {"bytes_fetched", bytes_fetched},   {"requests", requests},   {"bytes_copied", bytes_copied},
      {"chunks_fetched", chunks_fetched}, {"bytes_gap", bytes_gap}, {"bytes_broken", bytes_broken},
      {"bytes_wrong", bytes_wrong},       {"places", places},       {"images", list}};
  return json.dump(1) + "\n";
}

Status StatsFile::write(const Stats& stats) {
  const std::string text = stats.to_json();
  if (text == written_) return {};
  IMSY_TRY_ASSIGN(AtomicFile file, AtomicFile::create(path_, 0644));
  IMSY_TRY(write_all(file.fd(), as_bytes(text)));
  IMSY_TRY(file.commit(false));
  written_ = text;
  return {};
}

}  // namespace imsy::snapshotter
