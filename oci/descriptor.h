// Descriptor and the documents of the OCI image specification (v1.1), parsed strictly.
//
// Source: OCI image-spec v1.1.0, descriptor.md, manifest.md, image-index.md, config.md; Docker
// image manifest version 2 schema 2, which has the same shape under other media types.
// Everything here is hostile input until it is parsed: documents are at most 4 MiB, at most 64
// levels deep, have no duplicate keys, and numbers are integers in range. Violations are kInvalid
// with the path of the field in the message.
// Threads: plain values and free functions.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/bytes.h"
#include "common/digest.h"
#include "common/result.h"

extern template class nlohmann::basic_json<>;  // made in json.cc, not in every file anew

namespace imsy::oci {

using Json = nlohmann::json;  // keys in sorted order: our documents are deterministic

inline constexpr std::uint64_t kDocumentLimit = 4u << 20;
inline constexpr std::size_t kLayersMax = 4096;  // of an image

namespace media_type {
inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kOciEmpty = "application/vnd.oci.empty.v1+json";
inline constexpr std::string_view kOciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd";
inline constexpr std::string_view kOciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr std::string_view kOciLayer = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view kDockerManifest =
    "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerIndex =
    "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";
}  // namespace media_type

struct Platform {
  std::string os;
  std::string architecture;
  std::string variant;
  std::string os_version;
};

struct Descriptor {
  std::string media_type;
  Digest digest;
  std::uint64_t size = 0;  // bytes
  std::map<std::string, std::string> annotations;
  std::optional<Platform> platform;
  std::string artifact_type;
  std::vector<std::string> urls;  // foreign layers; never followed unless asked

  Json to_json() const;
  static Result<Descriptor> from_json(const Json& json, std::string_view where);
};

// A manifest or index as it was received: the bytes are what the digest names.
struct Document {
  std::string media_type;
  Digest digest;
  std::string bytes;

  // One of ours, with its digest.
  static Document make(std::string_view media_type, const Json& json);
  Descriptor describe() const;
};

struct Manifest {
  std::string media_type;
  std::string artifact_type;
  Descriptor config;
  std::vector<Descriptor> layers;
  std::optional<Descriptor> subject;
  std::map<std::string, std::string> annotations;

  Json to_json() const;
};

struct Index {
  std::string media_type;
  std::vector<Descriptor> manifests;
  std::map<std::string, std::string> annotations;

  Json to_json() const;
};

// What imsy needs of an image configuration; `json` keeps the rest unchanged.
struct ImageConfig {
  Json json;
  Platform platform;
  std::vector<Digest> diff_ids;
};

// Parses JSON under the limits above.
Result<Json> parse_json(std::string_view text, std::string_view where);

bool is_manifest(std::string_view media_type);  // OCI or Docker manifest
bool is_index(std::string_view media_type);     // OCI index or Docker list
bool is_layer(std::string_view media_type);     // of a file system, in any compression
// A layer that registries do not keep: it is fetched from `urls`, or not distributed at all.
bool is_foreign_layer(const Descriptor& layer);

// `mediaType` in the body must agree with document.media_type when both are present.
Result<Manifest> parse_manifest(const Document& document);
Result<Index> parse_index(const Document& document);
Result<ImageConfig> parse_config(std::string_view bytes);

}  // namespace imsy::oci
