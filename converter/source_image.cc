#include "converter/source_image.h"

#include <algorithm>
#include <utility>

#include "converter/platform.h"
#include "oci/described.h"

namespace imsy::converter {
namespace {

// Very old images do not say what they are for; they are for Linux.
bool is_for(const oci::Platform& found, const std::string& wanted) {
  if (!found.os.empty() && found.os != "linux") return false;
  if (wanted.empty()) return true;
  const auto platform = parse_platform(wanted);
  return platform && same_platform(found, *platform);
}

}  // namespace

Result<oci::Document> get_entry(oci::ImageSource& source, const oci::Descriptor& entry) {
  IMSY_TRY_ASSIGN(auto document, source.get_manifest(entry.digest.to_string()));
  IMSY_TRY(oci::check_described(document, entry));
  return document;
}

Result<SourceImage> read_image(oci::ImageSource& source, oci::Document document) {
  SourceImage image;
  IMSY_TRY_ASSIGN(image.manifest, oci::parse_manifest(document));
  IMSY_TRY_ASSIGN(const auto bytes, source.get_blob(image.manifest.config, oci::kDocumentLimit));
  IMSY_TRY_ASSIGN(image.config, oci::parse_config(bytes));
  const std::size_t layers = image.manifest.layers.size();
  if (layers != image.config.diff_ids.size()) {
    return Error(Errc::kInvalid, "the manifest has " + std::to_string(layers) +
                                     " layers, but the configuration has " +
                                     std::to_string(image.config.diff_ids.size()) + " diffIDs");
  }
  if (layers > oci::kLayersMax) return Error(Errc::kInvalid, "more than 4096 layers");
  image.document = std::move(document);
  return image;
}

bool is_image(const oci::Manifest& manifest) {
  const std::string& config = manifest.config.media_type;
  return manifest.artifact_type.empty() &&
         (config == oci::media_type::kOciConfig || config == oci::media_type::kDockerConfig);
}

bool has_only_layers(const oci::Manifest& manifest) {
  return std::all_of(manifest.layers.begin(), manifest.layers.end(),
                     [](const auto& layer) { return oci::is_layer(layer.media_type); });
}

Result<std::optional<SourceImage>> find_image(oci::ImageSource& source,
                                              const oci::Descriptor& entry,
                                              const std::string& platform) {
  const auto nothing = std::optional<SourceImage>();
  if (!oci::is_manifest(entry.media_type) || !entry.artifact_type.empty()) return nothing;
  if (entry.annotations.contains("vnd.docker.reference.type")) return nothing;  // an attestation
  if (entry.platform && !is_for(*entry.platform, platform)) return nothing;
  IMSY_TRY_ASSIGN(auto document, get_entry(source, entry));
  IMSY_TRY_ASSIGN(const auto manifest, oci::parse_manifest(document));
  if (!is_image(manifest) || !has_only_layers(manifest)) return nothing;
  IMSY_TRY_ASSIGN(auto image, read_image(source, std::move(document)));
  if (!is_for(image.config.platform, entry.platform ? "" : platform)) return nothing;
  return std::optional(std::move(image));
}

}  // namespace imsy::converter
