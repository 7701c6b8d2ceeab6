#include "cli/stat.h"

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/text.h"
#include "common/log.h"

namespace imsy::cli {
namespace {

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

std::string to_json(const cas::StoreStats& stats) {
  nlohmann::ordered_json json = {
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
      {"domains", nlohmann::ordered_json::array()},
      {"images", nlohmann::ordered_json::array()},
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
  return json.dump(2) + "\n";
}

}  // namespace imsy::cli
