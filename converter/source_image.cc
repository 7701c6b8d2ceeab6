#include "converter/source_image.h"

#include <utility>

namespace imsy::converter {
namespace {

constexpr std::size_t kLayersMax = 4096;

}  // namespace

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
  if (layers > kLayersMax) return Error(Errc::kInvalid, "more than 4096 layers");
  image.document = std::move(document);
  return image;
}

bool is_image(const oci::Manifest& manifest) {
  const std::string& config = manifest.config.media_type;
  return manifest.artifact_type.empty() &&
         (config == oci::media_type::kOciConfig || config == oci::media_type::kDockerConfig);
}

bool is_image_for(const oci::Descriptor& entry, const std::string& platform) {
  if (!oci::is_manifest(entry.media_type) || !entry.platform) return false;
  if (entry.platform->os != "linux" || !entry.artifact_type.empty()) return false;
  return platform.empty() || platform_name(*entry.platform) == platform;
}

}  // namespace imsy::converter
