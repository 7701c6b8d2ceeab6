// SourceImage: an image as a source gives it, before its layers are read.
//
// Threads: free functions. Those that take a source wait for the network or the disk.
#pragma once

#include <optional>
#include <string>

#include "converter/platform.h"
#include "oci/repository.h"

namespace imsy::converter {

struct SourceImage {
  oci::Document document;  // the image manifest, as it came
  oci::Manifest manifest;
  oci::ImageConfig config;  // one diffID per layer
};

// How many indexes may lie in one another.
inline constexpr unsigned kIndexDepth = 4;

// The manifest or index that an entry of an index is about. kCorrupt: it has another size or media
// type than `entry` says; else errors of `source`.
Result<oci::Document> get_entry(oci::ImageSource& source, const oci::Descriptor& entry);

// Reads the configuration of the image whose manifest is `document`. kInvalid: one of the two is
// malformed, or their layers do not pair; else errors of `source`.
Result<SourceImage> read_image(oci::ImageSource& source, oci::Document document);

// Whether the manifest says that it is an image's, and not one of the artifacts that are kept as
// manifests too.
bool is_image(const oci::Manifest& manifest);

// Whether all layers are such: some artifacts have the configuration of an image, and other things.
bool has_only_layers(const oci::Manifest& manifest);

// The image behind an entry of an index, if it is one for `platform` ("os/arch[/variant]"), or with
// "" for any Linux. Nothing for others: attestations, artifacts, and what goes through conversions
// as it is. Errors of `source`, and as read_image().
Result<std::optional<SourceImage>> find_image(oci::ImageSource& source,
                                              const oci::Descriptor& entry,
                                              const std::string& platform);

}  // namespace imsy::converter
