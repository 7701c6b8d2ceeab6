// The documents of a converted image: anchor layer, configuration, manifest, artifact manifest.
//
// Pure functions of the original image and the data layer: the same input gives the same bytes.
// docs/format/image.md.
// Threads: free functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cdc/anchor.h"
#include "converter/data_layer.h"
#include "oci/descriptor.h"

namespace imsy::converter {

// Annotations on both layers. The prefix makes containerd hand them to the snapshotter as labels.
namespace annotation {
inline constexpr std::string_view kAnchor = "containerd.io/snapshot/imsy.anchor";
inline constexpr std::string_view kRole = "containerd.io/snapshot/imsy.role";
inline constexpr std::string_view kConfig = "containerd.io/snapshot/imsy.config";
// On the image manifest: what made its frames (cdc::FrameEncoder::describe).
inline constexpr std::string_view kEncoder = "vnd.imsy.encoder";
// On the image manifest: the digest of the manifest it was made from.
inline constexpr std::string_view kSource = "vnd.imsy.source.digest";
// On the artifact's layer: where the CDC manifest lies in the blob.
inline constexpr std::string_view kManifestDigest = "vnd.imsy.cdc.manifest.digest";
inline constexpr std::string_view kManifestOffset = "vnd.imsy.cdc.manifest.offset";
inline constexpr std::string_view kManifestSize = "vnd.imsy.cdc.manifest.size";
}  // namespace annotation

inline constexpr std::string_view kArtifactType = "application/vnd.imsy.cdc.manifest.v1";

struct ConvertedImage {
  std::string anchor_tar;  // blob of the anchor layer
  std::string config;      // blob
  oci::Document manifest;  // of the image
  oci::Document artifact;  // lists the data layer and, later, deltas; its subject is the image
  oci::Descriptor manifest_descriptor;
  oci::Descriptor artifact_descriptor;
};

// The layers of a converted image, bottom first, with their annotations. `config` is the digest of
// its configuration.
std::vector<oci::Descriptor> converted_layers(const cdc::Anchor& anchor,
                                              std::string_view anchor_tar, const Digest& config);

// `encoder` made the frames. kInvalid when the anchor's text is too long for an annotation.
Result<ConvertedImage> make_image(const oci::Document& original, const oci::Manifest& manifest,
                                  const oci::ImageConfig& config, const cdc::Anchor& anchor,
                                  const std::string& encoder);

}  // namespace imsy::converter
