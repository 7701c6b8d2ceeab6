#include "oci/descriptor.h"

#include <utility>

#include "oci/base64.h"
#include "oci/json.h"

namespace imsy::oci {
namespace {

// RFC 6838, section 4.2: the only characters a type or subtype name may have. Whatever passes can
// stand in an HTTP header unchanged.
bool is_restricted_name(std::string_view name) {
  constexpr std::string_view kOther = "!#$&-^_.+";
  if (name.empty() || name.size() > 127) return false;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool alphanumeric =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!alphanumeric && (i == 0 || kOther.find(c) == std::string_view::npos)) return false;
  }
  return true;
}

bool is_media_type(std::string_view text) {
  const std::size_t slash = text.find('/');
  return slash != std::string_view::npos && is_restricted_name(text.substr(0, slash)) &&
         is_restricted_name(text.substr(slash + 1));
}

Result<std::string> media_type_field(const Json& json, std::string_view key,
                                     std::string_view where) {
  IMSY_TRY_ASSIGN(std::string type, string_field(json, key, where));
  if (!type.empty() && !is_media_type(type)) {
    return Error(Errc::kInvalid, field_path(where, key) + ": no valid media type");
  }
  return type;
}

Result<Platform> parse_platform(const Json& json, std::string_view where) {
  IMSY_TRY(check_object(json, {"os", "architecture", "variant", "os.version"}, where));
  Platform platform;
  IMSY_TRY_ASSIGN(platform.os, string_field(json, "os", where));
  IMSY_TRY_ASSIGN(platform.architecture, string_field(json, "architecture", where));
  IMSY_TRY_ASSIGN(platform.variant, string_field(json, "variant", where));
  IMSY_TRY_ASSIGN(platform.os_version, string_field(json, "os.version", where));
  return platform;
}

Json platform_to_json(const Platform& platform) {
  Json json = {{"architecture", platform.architecture}, {"os", platform.os}};
  if (!platform.variant.empty()) json["variant"] = platform.variant;
  if (!platform.os_version.empty()) json["os.version"] = platform.os_version;
  return json;
}

// A copy of the content may stand in the descriptor; it must be what the digest names.
Status check_embedded_data(const Json& json, const Descriptor& descriptor, std::string_view where) {
  if (find_field(json, "data") == nullptr) return {};
  IMSY_TRY_ASSIGN(const std::string text, string_field(json, "data", where));
  auto data = base64_decode(text);
  if (!data) return data.error().with_context(field_path(where, "data"));
  if (data->size() != descriptor.size || sha256(*data) != descriptor.digest) {
    return Error(Errc::kInvalid, field_path(where, "data") + ": not the content that size and " +
                                     "digest of the descriptor name");
  }
  return {};
}

Result<std::vector<Descriptor>> parse_descriptors(const Json& json, std::string_view key,
                                                  std::string_view where) {
  const auto found = json.find(key);
  if (found == json.end()) return Error(Errc::kInvalid, field_path(where, key) + ": is missing");
  std::vector<Descriptor> descriptors;
  if (found->is_null()) return descriptors;  // how Go writes an empty list
  if (!found->is_array()) {
    return Error(Errc::kInvalid, field_path(where, key) + ": must be an array");
  }
  for (const Json& item : *found) {
    const std::string path = element_path(where, key, descriptors.size());
    IMSY_TRY_ASSIGN(Descriptor descriptor, Descriptor::from_json(item, path));
    descriptors.push_back(std::move(descriptor));
  }
  return descriptors;
}

std::string describe(const Document& document, std::string_view kind) {
  return std::string(kind) + " " + document.digest.to_string();
}

// The media type that header and body agree on.
Result<std::string> agreed_media_type(const Json& json, const Document& document,
                                      std::string_view where) {
  IMSY_TRY_ASSIGN(std::string in_body, media_type_field(json, "mediaType", where));
  if (in_body.empty() && document.media_type.empty()) {
    return Error(Errc::kInvalid, std::string(where) + ": has no media type");
  }
  if (in_body.empty()) return document.media_type;
  if (!document.media_type.empty() && document.media_type != in_body) {
    return Error(Errc::kInvalid, field_path(where, "mediaType") + ": is " + in_body +
                                     ", but it was announced as " + document.media_type);
  }
  return in_body;
}

// What manifests and indexes share. `foreign` are the fields that belong to the other kind: a
// document that readers could take for either is refused.
Result<Json> parse_document(const Document& document,
                            std::initializer_list<std::string_view> foreign,
                            std::string_view where) {
  IMSY_TRY_ASSIGN(Json json, parse_json(document.bytes, where));
  IMSY_TRY(check_object(json,
                        {"schemaVersion", "mediaType", "artifactType", "config", "layers",
                         "manifests", "subject", "annotations", "fsLayers"},
                        where));
  IMSY_TRY_ASSIGN(const std::uint64_t version, required_number(json, "schemaVersion", where));
  if (version != 2) {
    return Error(Errc::kInvalid,
                 field_path(where, "schemaVersion") + ": must be 2, is " + std::to_string(version));
  }
  for (const std::string_view key : foreign) {
    if (find_field(json, key) != nullptr) {
      return Error(Errc::kInvalid, field_path(where, key) + ": does not belong into this document");
    }
  }
  return json;
}

Json descriptors_to_json(const std::vector<Descriptor>& descriptors) {
  Json list = Json::array();
  for (const Descriptor& descriptor : descriptors) list.push_back(descriptor.to_json());
  return list;
}

}  // namespace

Json Descriptor::to_json() const {
  Json json = {{"mediaType", media_type}, {"digest", digest.to_string()}, {"size", size}};
  if (!annotations.empty()) json["annotations"] = annotations;
  if (platform) json["platform"] = platform_to_json(*platform);
  if (!artifact_type.empty()) json["artifactType"] = artifact_type;
  if (!urls.empty()) json["urls"] = urls;
  return json;
}

Result<Descriptor> Descriptor::from_json(const Json& json, std::string_view where) {
  IMSY_TRY(check_object(
      json,
      {"mediaType", "digest", "size", "annotations", "platform", "artifactType", "urls", "data"},
      where));
  Descriptor descriptor;
  IMSY_TRY_ASSIGN(descriptor.media_type, media_type_field(json, "mediaType", where));
  if (descriptor.media_type.empty()) {
    return Error(Errc::kInvalid, field_path(where, "mediaType") + ": is missing");
  }
  IMSY_TRY_ASSIGN(descriptor.digest, required_digest(json, "digest", where));
  IMSY_TRY_ASSIGN(descriptor.size, required_number(json, "size", where));
  IMSY_TRY_ASSIGN(descriptor.annotations, string_map_field(json, "annotations", where));
  IMSY_TRY_ASSIGN(descriptor.artifact_type, media_type_field(json, "artifactType", where));
  IMSY_TRY_ASSIGN(descriptor.urls, string_list_field(json, "urls", where));
  if (const Json* platform = find_field(json, "platform")) {
    IMSY_TRY_ASSIGN(descriptor.platform, parse_platform(*platform, field_path(where, "platform")));
    // Without an architecture it says nothing that an image could be chosen by.
    if (descriptor.platform->architecture.empty()) descriptor.platform.reset();
  }
  IMSY_TRY(check_embedded_data(json, descriptor, where));
  return descriptor;
}

Document Document::make(std::string_view media_type, const Json& json) {
  Document document;
  document.media_type = media_type;
  document.bytes = json.dump();
  document.digest = sha256(document.bytes);
  return document;
}

Descriptor Document::describe() const {
  Descriptor descriptor;
  descriptor.media_type = media_type;
  descriptor.digest = digest;
  descriptor.size = bytes.size();
  return descriptor;
}

Json Manifest::to_json() const {
  Json json = {{"schemaVersion", 2},
               {"mediaType", media_type},
               {"config", config.to_json()},
               {"layers", descriptors_to_json(layers)}};
  if (!artifact_type.empty()) json["artifactType"] = artifact_type;
  if (subject) json["subject"] = subject->to_json();
  if (!annotations.empty()) json["annotations"] = annotations;
  return json;
}

Json Index::to_json() const {
  Json json = {{"schemaVersion", 2},
               {"mediaType", media_type},
               {"manifests", descriptors_to_json(manifests)}};
  if (!annotations.empty()) json["annotations"] = annotations;
  return json;
}

bool is_manifest(std::string_view media_type) {
  return media_type == media_type::kOciManifest || media_type == media_type::kDockerManifest;
}

bool is_index(std::string_view media_type) {
  return media_type == media_type::kOciIndex || media_type == media_type::kDockerIndex;
}

bool is_layer(std::string_view media_type) {
  return media_type.starts_with("application/vnd.oci.image.layer.") ||
         media_type.starts_with("application/vnd.docker.image.rootfs.");
}

bool is_foreign_layer(const Descriptor& layer) {
  return layer.media_type.find("nondistributable") != std::string::npos ||
         layer.media_type.find("foreign") != std::string::npos || !layer.urls.empty();
}

Result<Manifest> parse_manifest(const Document& document) {
  const std::string where = describe(document, "manifest");
  IMSY_TRY_ASSIGN(const Json json, parse_document(document, {"manifests", "fsLayers"}, where));
  Manifest manifest;
  IMSY_TRY_ASSIGN(manifest.media_type, agreed_media_type(json, document, where));
  if (!is_manifest(manifest.media_type)) {
    return Error(Errc::kInvalid, where + ": is no image manifest but " + manifest.media_type);
  }
  const Json* config = find_field(json, "config");
  if (config == nullptr) return Error(Errc::kInvalid, where + ".config: is missing");
  IMSY_TRY_ASSIGN(manifest.config, Descriptor::from_json(*config, field_path(where, "config")));
  IMSY_TRY_ASSIGN(manifest.layers, parse_descriptors(json, "layers", where));
  if (const Json* subject = find_field(json, "subject")) {
    IMSY_TRY_ASSIGN(manifest.subject, Descriptor::from_json(*subject, where + ".subject"));
  }
  IMSY_TRY_ASSIGN(manifest.artifact_type, media_type_field(json, "artifactType", where));
  IMSY_TRY_ASSIGN(manifest.annotations, string_map_field(json, "annotations", where));
  return manifest;
}

Result<Index> parse_index(const Document& document) {
  const std::string where = describe(document, "index");
  IMSY_TRY_ASSIGN(const Json json,
                  parse_document(document, {"config", "layers", "fsLayers"}, where));
  Index index;
  IMSY_TRY_ASSIGN(index.media_type, agreed_media_type(json, document, where));
  if (!is_index(index.media_type)) {
    return Error(Errc::kInvalid, where + ": is no image index but " + index.media_type);
  }
  IMSY_TRY_ASSIGN(index.manifests, parse_descriptors(json, "manifests", where));
  IMSY_TRY_ASSIGN(index.annotations, string_map_field(json, "annotations", where));
  return index;
}

Result<ImageConfig> parse_config(std::string_view bytes) {
  constexpr std::string_view kWhere = "image config";
  ImageConfig config;
  IMSY_TRY_ASSIGN(config.json, parse_json(bytes, kWhere));
  IMSY_TRY(check_object(config.json, {"rootfs", "config", "history"}, kWhere));
  IMSY_TRY_ASSIGN(config.platform, parse_platform(config.json, kWhere));
  const Json* rootfs = find_field(config.json, "rootfs");
  if (rootfs == nullptr) return Error(Errc::kInvalid, "image config.rootfs: is missing");
  IMSY_TRY(check_object(*rootfs, {"type", "diff_ids"}, "image config.rootfs"));
  IMSY_TRY_ASSIGN(const std::string type, string_field(*rootfs, "type", "image config.rootfs"));
  if (type != "layers") {
    return Error(Errc::kInvalid, "image config.rootfs.type: must be \"layers\"");
  }
  IMSY_TRY_ASSIGN(const std::vector<std::string> diff_ids,
                  string_list_field(*rootfs, "diff_ids", "image config.rootfs"));
  for (const std::string& text : diff_ids) {
    auto diff_id = Digest::parse(text);
    if (!diff_id) {
      return diff_id.error().with_context(
          element_path("image config.rootfs", "diff_ids", config.diff_ids.size()));
    }
    config.diff_ids.push_back(*diff_id);
  }
  return config;
}

}  // namespace imsy::oci
