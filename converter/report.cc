#include "converter/report.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace imsy::converter {
namespace {

oci::Json to_json(const Transfers& bytes) {
  return oci::Json{
      {"was_there", bytes.was_there}, {"mounted", bytes.mounted}, {"sent", bytes.sent}};
}

std::string megabytes(std::uint64_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

std::string to_text(const Transfers& bytes) {
  return megabytes(bytes.sent) + " sent, " + megabytes(bytes.mounted) + " mounted, " +
         megabytes(bytes.was_there) + " were there";
}

// Of an image that was in the target only its names are known.
oci::Json to_json(const ImageReport& image) {
  const DataLayer& layer = image.data_layer;
  oci::Json json{
      {"platform", image.platform},
      {"source", image.source.to_string()},
      {"manifest", image.manifest.to_string()},
      {"artifact", image.artifact ? oci::Json(image.artifact->to_string()) : oci::Json()},
      {"reused", image.reused}};
  if (image.reused) return json;
  json.update(oci::Json{
      {"data_layer",
       {{"digest", layer.anchor.data_layers[0].blob.to_string()},
        {"diff_id", layer.anchor.data_layers[0].diff_id.to_string()},
        {"size", layer.anchor.data_layers[0].size},
        {"raw_size", layer.raw_size},
        {"frames", layer.frames},
        {"reused_frames", layer.reused_frames}}},
      {"cdc_manifest",
       {{"digest", layer.anchor.manifest.to_string()},
        {"size", layer.manifest_size},
        {"mount_size", layer.mount_size}}},
      {"inodes", image.inodes},
      {"chunks", layer.chunks},
      {"content_bytes", image.content_bytes},
      {"profile", {{"front_files", image.front_files}, {"unknown_paths", image.unknown_accesses}}},
      {"warnings",
       {{"duplicate_entries", image.warnings.duplicate_entries},
        {"symlinked_parents", image.warnings.symlinked_parents},
        {"ignored_whiteouts", image.warnings.ignored_whiteouts},
        {"whiteout_devices", image.warnings.whiteout_devices},
        {"dropped_xattrs", image.warnings.dropped_xattrs},
        {"dropped_indexes", image.warnings.dropped_indexes}}},
      {"transfers", to_json(image.transfers)},
  });
  return json;
}

void add_warnings(const ImageReport& image, std::vector<std::string>& lines) {
  const LayerWarnings& found = image.warnings;
  const std::pair<std::uint64_t, const char*> kinds[] = {
      {found.duplicate_entries, "entries come twice in one layer; the last one counts"},
      {found.symlinked_parents, "paths lead through a symlink, which was followed in the image"},
      {found.ignored_whiteouts, "marks of old storage drivers (.wh..wh.*) are left out"},
      {found.whiteout_devices, "character devices 0:0 are taken as whiteouts"},
      {found.dropped_xattrs, "extended attributes that belong to a host are left out"},
      {found.dropped_indexes, "files that lazily pulled layers have about themselves are left out"},
  };
  for (const auto& [count, what] : kinds) {
    if (count > 0) lines.push_back(image.platform + ": " + std::to_string(count) + " " + what);
  }
}

// The first ones; an index may have many images.
std::string warnings_text(const ConvertReport& report) {
  constexpr std::size_t kShown = 10;
  std::vector<std::string> lines;
  for (const auto& image : report.images) add_warnings(image, lines);
  std::string text;
  for (std::size_t i = 0; i < std::min(lines.size(), kShown); ++i) {
    text += "warning: " + lines[i] + "\n";
  }
  if (lines.size() <= kShown) return text;
  return text + "and " + std::to_string(lines.size() - kShown) + " more warnings, see --report\n";
}

}  // namespace

oci::Json to_json(const ConvertReport& report) {
  oci::Json json{{"digest", report.digest.to_string()}, {"images", oci::Json::array()}};
  for (const auto& image : report.images) json["images"].push_back(to_json(image));
  oci::Json entries = oci::Json::array();
  for (const auto& digest : report.carried) entries.push_back(digest.to_string());
  json["carried"] = {{"entries", entries}, {"transfers", to_json(report.carried_transfers)}};
  json["left_out"] = oci::Json::array();
  for (const auto& entry : report.left_out) {
    json["left_out"].push_back({{"digest", entry.digest.to_string()}, {"reason", entry.reason}});
  }
  return json;
}

std::string to_text(const ConvertReport& report) {
  std::string text;
  for (const auto& image : report.images) {
    text += image.platform;
    if (image.reused) {
      text += ": is there from an earlier conversion\n";
      continue;
    }
    const DataLayer& layer = image.data_layer;
    text += ": " + megabytes(layer.raw_size) + " in " +
            megabytes(layer.anchor.data_layers[0].size) + ", " + std::to_string(image.inodes) +
            " inodes, " + std::to_string(layer.chunks) + " chunks; " + to_text(image.transfers) +
            "\n";
  }
  if (!report.carried.empty() || !report.left_out.empty()) {
    text += "beside the images: " + std::to_string(report.carried.size()) +
            " entries carried through, " + std::to_string(report.left_out.size()) + " left out; " +
            to_text(report.carried_transfers) + "\n";
  }
  return text + warnings_text(report);
}

}  // namespace imsy::converter
