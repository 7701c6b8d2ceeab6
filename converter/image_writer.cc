#include "converter/image_writer.h"

#include <utility>

#include "oci/tar/tar.h"

namespace imsy::converter {
namespace {

using oci::Json;

oci::Descriptor describe(std::string_view media_type, std::string_view blob) {
  oci::Descriptor descriptor;
  descriptor.media_type = media_type;
  descriptor.digest = sha256(blob);
  descriptor.size = blob.size();
  return descriptor;
}

// The configuration with the two layers instead of the original ones. Everything else stays.
Json rewrite_config(const oci::ImageConfig& original, const Digest& anchor_diff_id,
                    const cdc::Anchor& anchor, const Digest& source) {
  Json config = original.json;
  Json diff_ids = Json::array({anchor_diff_id.to_string()});
  for (const auto& layer : anchor.data_layers) diff_ids.push_back(layer.diff_id.to_string());
  config["rootfs"] = Json{{"type", "layers"}, {"diff_ids", diff_ids}};

  const auto entry = [&](const std::string& created_by) {
    Json made{{"created_by", created_by}};
    if (config.contains("created")) made["created"] = config["created"];
    return made;
  };
  Json history = Json::array({entry("imsy-convert: anchor")});
  for (std::size_t i = 0; i < anchor.data_layers.size(); ++i) {
    history.push_back(entry("imsy-convert: all layers of " + source.to_string()));
  }
  config["history"] = std::move(history);
  return config;
}

oci::Descriptor describe(const cdc::Anchor::DataLayer& data) {
  oci::Descriptor layer;
  layer.media_type = oci::media_type::kOciLayerZstd;
  layer.digest = data.blob;
  layer.size = data.size;
  return layer;
}

oci::Manifest image_manifest(const oci::Manifest& original, const Digest& source,
                             const oci::Descriptor& config, const std::string& anchor_tar,
                             const cdc::Anchor& anchor, const std::string& encoder) {
  oci::Manifest manifest;
  manifest.media_type = oci::media_type::kOciManifest;
  manifest.config = config;
  manifest.annotations = original.annotations;
  manifest.annotations[std::string(annotation::kSource)] = source.to_string();
  manifest.annotations[std::string(annotation::kEncoder)] = encoder;
  manifest.layers = converted_layers(anchor, anchor_tar, config.digest);
  return manifest;
}

oci::Manifest artifact_manifest(const oci::Descriptor& subject, const cdc::Anchor& anchor) {
  oci::Manifest artifact;
  artifact.media_type = oci::media_type::kOciManifest;
  artifact.artifact_type = kArtifactType;
  artifact.config = describe(oci::media_type::kOciEmpty, "{}");
  artifact.subject = subject;
  for (std::size_t i = 0; i < anchor.data_layers.size(); ++i) {
    oci::Descriptor layer = describe(anchor.data_layers[i]);
    if (i == anchor.manifest_layer) {
      auto& notes = layer.annotations;
      notes[std::string(annotation::kManifestDigest)] = anchor.manifest.to_string();
      notes[std::string(annotation::kManifestOffset)] = std::to_string(anchor.manifest_offset);
      notes[std::string(annotation::kManifestSize)] = std::to_string(anchor.manifest_size);
    }
    artifact.layers.push_back(std::move(layer));
  }
  return artifact;
}

}  // namespace

std::vector<oci::Descriptor> converted_layers(const cdc::Anchor& anchor,
                                              std::string_view anchor_tar, const Digest& config) {
  std::vector<oci::Descriptor> layers;
  const auto add = [&](oci::Descriptor layer, const std::string& role) {
    layer.annotations[std::string(annotation::kAnchor)] = anchor.to_text();
    layer.annotations[std::string(annotation::kRole)] = role;
    layer.annotations[std::string(annotation::kConfig)] = config.to_string();
    layers.push_back(std::move(layer));
  };
  add(describe(oci::media_type::kOciLayer, anchor_tar), "anchor");
  const std::size_t count = anchor.data_layers.size();
  for (std::size_t i = 0; i < count; ++i) {
    add(describe(anchor.data_layers[i]), count == 1 ? "data" : "data/" + std::to_string(i));
  }
  return layers;
}

Result<ConvertedImage> make_image(const oci::Document& original, const oci::Manifest& manifest,
                                  const oci::ImageConfig& config, const cdc::Anchor& anchor,
                                  const std::string& encoder) {
  const std::string text = anchor.to_text();
  if (text.size() > cdc::kAnchorTextLimit) {
    return Error(Errc::kInvalid, "the anchor is too long for an annotation: too many data layers");
  }
  ConvertedImage image;
  IMSY_TRY_ASSIGN(image.anchor_tar, oci::tar::marker_archive(cdc::kAnchorRecordKey, text));
  image.config = rewrite_config(config, sha256(image.anchor_tar), anchor, original.digest).dump();
  const auto config_descriptor = describe(oci::media_type::kOciConfig, image.config);

  const auto rewritten = image_manifest(manifest, original.digest, config_descriptor,
                                        image.anchor_tar, anchor, encoder);
  image.manifest = oci::Document::make(oci::media_type::kOciManifest, rewritten.to_json());
  image.manifest_descriptor = image.manifest.describe();

  const auto artifact = artifact_manifest(image.manifest_descriptor, anchor);
  image.artifact = oci::Document::make(oci::media_type::kOciManifest, artifact.to_json());
  image.artifact_descriptor = image.artifact.describe();
  image.artifact_descriptor.artifact_type = kArtifactType;
  return image;
}

}  // namespace imsy::converter
