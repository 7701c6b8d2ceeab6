#include "cli/stat.h"

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "cli/text.h"

namespace imsy::cli {
namespace {

std::string line(std::string_view name, std::uint64_t count, std::uint64_t bytes,
                 std::string_view meaning) {
  return fmt::format("{:<10}{:>12}{:>12}  {}\n", name, count, human_bytes(bytes), meaning);
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
  text += fmt::format("{:<10}{:>12}\n", "chunks", stats.chunks);
  text += fmt::format("{:<10}{:>12}\n", "images", stats.images.size());
  for (const auto& image : stats.images) {
    text += fmt::format("  {}  {:<12}  {:>8} objects  {:>10}\n", image.manifest.to_string(),
                        image.resident ? "resident" : "not resident", image.objects,
                        human_bytes(image.bytes));
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
      {"chunks", stats.chunks},
      {"images", nlohmann::ordered_json::array()},
  };
  for (const auto& image : stats.images) {
    json["images"].push_back({{"manifest", image.manifest.to_string()},
                              {"resident", image.resident},
                              {"objects", image.objects},
                              {"bytes", image.bytes}});
  }
  return json.dump(2) + "\n";
}

}  // namespace imsy::cli
