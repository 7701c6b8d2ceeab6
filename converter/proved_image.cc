#include "converter/proved_image.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "cdc/manifest_fetch.h"
#include "converter/image_writer.h"
#include "oci/tar/tar.h"

namespace imsy::converter {
namespace {

constexpr std::array kAnnotations = {annotation::kAnchor, annotation::kRole, annotation::kConfig};

std::string_view find(const oci::Descriptor& layer, std::string_view key) {
  const auto found = layer.annotations.find(std::string(key));
  return found == layer.annotations.end() ? std::string_view() : found->second;
}

// Other annotations may be there too: registries and build systems add their own.
Status check_layer(const oci::Descriptor& found, const oci::Descriptor& expected) {
  const std::string role(find(expected, annotation::kRole));
  for (const std::string_view key : kAnnotations) {
    if (find(found, key) == find(expected, key)) continue;
    return Error(Errc::kCorrupt, "the annotation " + std::string(key) + " of layer \"" + role +
                                     "\" does not agree with the anchor");
  }
  if (found.media_type == expected.media_type && found.digest == expected.digest &&
      found.size == expected.size) {
    return {};
  }
  return Error(Errc::kCorrupt,
               "layer \"" + role + "\" has another type, digest or size than the anchor says");
}

Status check_layers(const SourceImage& image, const cdc::Anchor& anchor,
                    std::string_view anchor_tar) {
  const auto expected = converted_layers(anchor, anchor_tar, image.manifest.config.digest);
  const auto& found = image.manifest.layers;
  if (found.size() != expected.size()) {
    return Error(Errc::kCorrupt, "the image has " + std::to_string(found.size()) +
                                     " layers, its anchor makes " +
                                     std::to_string(expected.size()));
  }
  for (std::size_t i = 0; i < found.size(); ++i) IMSY_TRY(check_layer(found[i], expected[i]));
  return {};
}

// The chain of chainIDs is that of the diffIDs, so equal diffIDs prove it.
Status check_chain(const oci::ImageConfig& config, const cdc::Anchor& anchor,
                   std::string_view anchor_tar) {
  if (config.diff_ids[0] != sha256(anchor_tar)) {
    return Error(Errc::kCorrupt, "the configuration's diffID 0 is not that of the anchor's tar");
  }
  for (std::size_t i = 0; i < anchor.data_layers.size(); ++i) {
    if (config.diff_ids[i + 1] == anchor.data_layers[i].diff_id) continue;
    return Error(Errc::kCorrupt, "the configuration's diffID " + std::to_string(i + 1) +
                                     " is not the one that the anchor names");
  }
  return {};
}

}  // namespace

std::uint64_t ProvedImage::raw_size() const {
  const cdc::Objects& objects = manifest->objects();
  if (objects.frame_count() == 0) return 0;
  const cdc::Frame& last = objects.frame(objects.frame_count() - 1);
  return last.raw_offset + last.raw_size;
}

Digest original_of(const oci::Manifest& manifest) {
  const auto found = manifest.annotations.find(std::string(annotation::kSource));
  if (found == manifest.annotations.end()) return {};
  return Digest::parse(found->second).value_or(Digest());
}

bool says_converted(const SourceImage& image) {
  const auto& layers = image.manifest.layers;
  return !layers.empty() && std::ranges::all_of(layers, [](const oci::Descriptor& layer) {
    return !find(layer, annotation::kAnchor).empty();
  });
}

Result<ProvedImage> open_converted(oci::ImageSource& source, SourceImage image) {
  if (!says_converted(image)) {
    return Error(Errc::kFailedPrecondition,
                 "is an ordinary image; convert it with imsy-convert first");
  }
  ProvedImage converted;
  auto anchor = cdc::Anchor::parse(find(image.manifest.layers[0], annotation::kAnchor));
  if (!anchor) return anchor.error().with_context("annotation " + std::string(annotation::kAnchor));
  converted.anchor = std::move(*anchor);
  IMSY_TRY_ASSIGN(const std::string anchor_tar,
                  oci::tar::marker_archive(cdc::kAnchorRecordKey, converted.anchor.to_text()));
  IMSY_TRY(check_layers(image, converted.anchor, anchor_tar));
  IMSY_TRY(check_chain(image.config, converted.anchor, anchor_tar));
  const oci::Descriptor& holder = image.manifest.layers[converted.anchor.manifest_layer + 1];
  auto fetched =
      cdc::fetch_manifest(converted.anchor, [&](std::uint64_t offset, std::uint64_t length) {
        return source.read_part(holder, offset, length);
      });
  if (!fetched) return fetched.error().with_context("CDC manifest");
  converted.manifest = std::move(fetched->manifest);
  converted.image = std::move(image);
  return converted;
}

}  // namespace imsy::converter
