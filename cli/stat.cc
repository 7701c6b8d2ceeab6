#include "cli/stat.h"

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/text.h"
#include "common/io.h"
#include "common/log.h"
#include "oci/json.h"

namespace imsy::cli {
namespace {

constexpr std::uint64_t kStatsLimit = 64u << 20;

using Json = nlohmann::ordered_json;

Result<Traffic::Sum> parse_sum(const oci::Json& json, const std::string& where) {
  IMSY_TRY(oci::check_object(json, {}, where));
  Traffic::Sum sum;
  IMSY_TRY_ASSIGN(sum.requests, oci::required_number(json, "requests", where));
  IMSY_TRY_ASSIGN(sum.bytes, oci::required_number(json, "bytes", where));
  return sum;
}

Json json_of(const Traffic::Sum& sum) {
  return {{"requests", sum.requests}, {"bytes", sum.bytes}};
}

Json json_of(const Traffic& traffic) {
  Json json = json_of(traffic.all);
  json["bytes_gap"] = traffic.bytes_gap;
  json["bytes_broken"] = traffic.bytes_broken;
  json["bytes_wrong"] = traffic.bytes_wrong;
  json["places"] = Json::object();
  for (const auto& [place, purposes] : traffic.places) {
    for (const auto& [purpose, sum] : purposes) json["places"][place][purpose] = json_of(sum);
  }
  return json;
}

std::string line(std::string_view name, std::uint64_t count, std::uint64_t bytes,
                 std::string_view meaning) {
  return fmt::format("{:<10}{:>12}{:>12}  {}\n", name, count, human_bytes(bytes), meaning);
}

std::string domain_text(const std::string& name) {
  if (name.empty()) return "public";
  return name == "?" ? "of several, or unknown" : log::printable(name);
}

}  // namespace

Result<cas::StoreStats> read_stats(const std::filesystem::path& root) {
  auto store = cas::Store::open(root / "store", {.read_only = true});
  if (!store && store.error().code() == Errc::kNotFound) {
    return Error(Errc::kNotFound, "no store in " + root.string() +
                                      "; name the root directory of imsy-snapshotter with --root");
  }
  if (!store) return store.error();
  return (*store)->stats();
}

Result<std::unique_ptr<cas::Store>> open_idle_store(const std::filesystem::path& root) {
  // What is not there is not made.
  IMSY_TRY_ASSIGN(const cas::StoreStats stats, read_stats(root));
  return cas::Store::open(root / "store", {.quota_bytes = stats.quota_bytes,
                                           .free_floor_percent = stats.free_floor_percent,
                                           .keep_limits = false});
}

Result<Traffic> parse_traffic(std::string_view text, const std::string& where) {
  IMSY_TRY_ASSIGN(const oci::Json json, oci::parse_json(text, where));
  IMSY_TRY(oci::check_object(json, {}, where));
  Traffic traffic;
  IMSY_TRY_ASSIGN(traffic.all.requests, oci::required_number(json, "requests", where));
  IMSY_TRY_ASSIGN(traffic.all.bytes, oci::required_number(json, "bytes_fetched", where));
  IMSY_TRY_ASSIGN(traffic.bytes_gap, oci::required_number(json, "bytes_gap", where));
  IMSY_TRY_ASSIGN(traffic.bytes_broken, oci::required_number(json, "bytes_broken", where));
  IMSY_TRY_ASSIGN(traffic.bytes_wrong, oci::required_number(json, "bytes_wrong", where));
  const oci::Json* places = oci::find_field(json, "places");
  if (places == nullptr) return traffic;
  IMSY_TRY(oci::check_object(*places, {}, where));
  for (const auto& [place, purposes] : places->items()) {
    IMSY_TRY(oci::check_object(purposes, {}, where));
    for (const auto& [purpose, sum] : purposes.items()) {
      IMSY_TRY_ASSIGN(traffic.places[place][purpose], parse_sum(sum, where));
    }
  }
  return traffic;
}

Result<std::optional<Traffic>> read_traffic(const std::filesystem::path& state) {
  const std::filesystem::path path = state / "stats.json";
  const auto bytes = read_file(path, kStatsLimit);
  if (!bytes && bytes.error().code() == Errc::kNotFound) return std::optional<Traffic>();
  if (!bytes) return bytes.error();
  IMSY_TRY_ASSIGN(auto traffic, parse_traffic(as_text(*bytes), path.string()));
  return std::optional(std::move(traffic));
}

std::string to_text(const cas::StoreStats& stats) {
  std::string text = line("objects", stats.objects, stats.object_bytes, "complete");
  text += line("owned", stats.objects - stats.unowned_objects,
               stats.object_bytes - stats.unowned_bytes, "of these, by at least one image");
  text += line("unowned", stats.unowned_objects, stats.unowned_bytes, "of these, by no image");
  text += line("partial", stats.partial_objects, stats.partial_bytes,
               "still incomplete; bytes on disk");
  text += line("trash", stats.trash_objects, stats.trash_bytes, "gave way, deleted in a minute");
  text += fmt::format("{:<10}{:>12}\n", "chunks", stats.chunks);
  text += fmt::format("{:<10}{:>12}{:>12}  {}\n", "quota", "",
                      stats.quota_bytes == 0 ? "none" : human_bytes(stats.quota_bytes),
                      "content gives way above this");
  text += fmt::format("{:<10}{:>11}%{:>12}  of {} are free, content gives way below this\n",
                      "floor", stats.free_floor_percent, human_bytes(stats.free_bytes),
                      human_bytes(stats.disk_bytes));
  text += fmt::format("{:<10}{:>12}\n", "domains", stats.domains.size());
  for (const auto& domain : stats.domains) {
    text += fmt::format("  {:>8} objects  {:>10}  {}\n", domain.objects, human_bytes(domain.bytes),
                        domain_text(domain.name));
  }
  text += fmt::format("{:<10}{:>12}\n", "images", stats.images.size());
  for (const auto& image : stats.images) {
    text += fmt::format("  {}  {:<12}  {:>8} objects  {:>10}\n", image.manifest.to_string(),
                        image.resident ? "resident"
                        : image.shrunk ? "shrunk"
                                       : "not resident",
                        image.objects, human_bytes(image.bytes));
  }
  return text;
}

std::string to_text(const Traffic& traffic) {
  std::string text = line("requests", traffic.all.requests, traffic.all.bytes,
                          "received since imsy-snapshotter started");
  for (const auto& [place, purposes] : traffic.places) {
    text += "  " + log::printable(place) + "\n";
    for (const auto& [purpose, sum] : purposes) {
      text += "    " + line(log::printable(purpose), sum.requests, sum.bytes, "");
    }
  }
  const auto useless = [](const char* name, std::uint64_t bytes, const char* meaning) {
    return fmt::format("{:<22}{:>12}  {}\n", name, human_bytes(bytes), meaning);
  };
  text += useless("gap", traffic.bytes_gap, "of these, beside what was needed");
  text += useless("broken", traffic.bytes_broken, "of these, of what broke off in the middle");
  text += useless("wrong", traffic.bytes_wrong, "of these, not what they should have been");
  return text;
}

std::string to_json(const cas::StoreStats& stats, const std::optional<Traffic>& traffic) {
  Json json = {
      {"objects", stats.objects},
      {"object_bytes", stats.object_bytes},
      {"owned_objects", stats.objects - stats.unowned_objects},
      {"owned_bytes", stats.object_bytes - stats.unowned_bytes},
      {"unowned_objects", stats.unowned_objects},
      {"unowned_bytes", stats.unowned_bytes},
      {"partial_objects", stats.partial_objects},
      {"partial_bytes", stats.partial_bytes},
      {"trash_objects", stats.trash_objects},
      {"trash_bytes", stats.trash_bytes},
      {"chunks", stats.chunks},
      {"quota_bytes", stats.quota_bytes},
      {"free_floor_percent", stats.free_floor_percent},
      {"disk_bytes", stats.disk_bytes},
      {"free_bytes", stats.free_bytes},
      {"domains", Json::array()},
      {"images", Json::array()},
  };
  for (const auto& domain : stats.domains) {
    json["domains"].push_back(
        {{"name", domain.name}, {"objects", domain.objects}, {"bytes", domain.bytes}});
  }
  for (const auto& image : stats.images) {
    json["images"].push_back({{"manifest", image.manifest.to_string()},
                              {"resident", image.resident},
                              {"shrunk", image.shrunk},
                              {"pinned", image.pinned},
                              {"objects", image.objects},
                              {"bytes", image.bytes}});
  }
  if (traffic) json["traffic"] = json_of(*traffic);
  return json.dump(2) + "\n";
}

}  // namespace imsy::cli
