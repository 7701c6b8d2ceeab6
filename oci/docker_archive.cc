#include "oci/docker_archive.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/log.h"
#include "oci/archive.h"
#include "oci/decompress.h"
#include "oci/json.h"
#include "oci/layer_type.h"
#include "oci/layout_reader.h"
#include "oci/reference.h"

namespace imsy::oci {
namespace {

// One image as manifest.json lists it; the paths are names in the archive.
struct Listed {
  std::string config;
  std::vector<std::string> tags;
  std::vector<std::string> layers;
};

Result<std::string> path_of(const std::string& name, const std::string& where) {
  auto path = archive_path(name);
  return path ? path : path.error().with_context(where + ": " + log::printable(name.substr(0, 99)));
}

Result<Listed> parse_listed(const Json& json, const std::string& where) {
  IMSY_TRY(check_object(json, {"Config", "RepoTags", "Layers"}, where));
  Listed image;
  IMSY_TRY_ASSIGN(const std::string config, required_string(json, "Config", where));
  IMSY_TRY_ASSIGN(image.config, path_of(config, where));
  IMSY_TRY_ASSIGN(image.tags, string_list_field(json, "RepoTags", where));
  IMSY_TRY_ASSIGN(const auto layers, string_list_field(json, "Layers", where));
  if (layers.size() > kLayersMax) return Error(Errc::kInvalid, where + ": more than 4096 layers");
  for (const std::string& layer : layers) {
    IMSY_TRY_ASSIGN(std::string path, path_of(layer, where));
    image.layers.push_back(std::move(path));
  }
  return image;
}

Result<std::vector<Listed>> parse_list(std::string_view text) {
  const std::string where(kDockerArchiveManifest);
  IMSY_TRY_ASSIGN(const Json json, parse_json(text, where));
  if (!json.is_array()) return Error(Errc::kInvalid, where + ": must be an array");
  std::vector<Listed> images;
  for (const Json& item : json) {
    const std::string place = where + "[" + std::to_string(images.size()) + "]";
    IMSY_TRY_ASSIGN(Listed image, parse_listed(item, place));
    images.push_back(std::move(image));
  }
  return images;
}

// Short and long form of a reference are equal.
std::string normalised(const std::string& text) {
  const auto reference = Reference::parse(text);
  return reference ? reference->to_string() : text;
}

// The digest that the name of a blob promises, if it does.
std::optional<Digest> promised_blob(std::string_view path) {
  const std::string prefix = std::string(layout_file::kBlobs) + "/";
  if (!path.starts_with(prefix)) return std::nullopt;
  const auto digest = Digest::parse_hex(path.substr(prefix.size()));
  return digest ? std::optional(*digest) : std::nullopt;
}

// The same for a configuration, which is also called <hex>.json or sha256:<hex>: the image's id.
std::optional<Digest> promised_config(std::string_view path) {
  if (const auto digest = promised_blob(path)) return digest;
  if (const auto digest = Digest::parse(path)) return *digest;
  constexpr std::string_view kSuffix = ".json";
  if (!path.ends_with(kSuffix)) return std::nullopt;
  const auto digest = Digest::parse_hex(path.substr(0, path.size() - kSuffix.size()));
  return digest ? std::optional(*digest) : std::nullopt;
}

Result<Compression> compression_of(const FileSet::File& file) {
  std::array<std::byte, 4> head{};
  std::size_t have = 0;
  while (have < head.size()) {
    IMSY_TRY_ASSIGN(const std::size_t got, file.content->read(std::span(head).subspan(have)));
    if (got == 0) break;
    have += got;
  }
  return detect_compression(std::span(head).first(have));
}

class DockerArchive : public ImageSource {
 public:
  DockerArchive(std::string name, std::unique_ptr<const Archive> archive,
                std::vector<Listed> images)
      : name_(std::move(name)), archive_(std::move(archive)), images_(std::move(images)) {}

  std::string name() const override { return name_; }
  Result<Document> get_manifest(const std::string& reference) override;
  Result<std::unique_ptr<ByteReader>> open_blob(const Descriptor& descriptor) override;

 private:
  Result<const Listed*> find(const std::string& reference) const;
  std::string list_tags() const;
  Result<Manifest> make_manifest(const Listed& image);
  Result<std::string> read_config(const std::string& path) const;
  Result<Descriptor> describe_layer(const std::string& path, const Digest& diff_id);
  Result<Digest> hash(const std::string& path);

  const std::string name_;
  const std::unique_ptr<const Archive> archive_;
  const std::vector<Listed> images_;
  std::map<Digest, std::string> paths_;   // of the blobs of manifests that were made
  std::map<std::string, Digest> hashed_;  // of paths that do not promise a digest
};

std::string DockerArchive::list_tags() const {
  std::vector<std::string> tags;
  for (const Listed& image : images_) {
    tags.insert(tags.end(), image.tags.begin(), image.tags.end());
  }
  return tags.empty() ? "none has a tag" : "its tags are " + list_names(tags);
}

Result<const Listed*> DockerArchive::find(const std::string& reference) const {
  const std::string wanted = normalised(reference);
  std::vector<const Listed*> found;
  for (const Listed& image : images_) {
    const bool fits = std::any_of(image.tags.begin(), image.tags.end(),
                                  [&](const auto& tag) { return normalised(tag) == wanted; });
    if (reference.empty() || fits) found.push_back(&image);
  }
  if (found.size() == 1) return found.front();
  if (images_.empty()) return Error(Errc::kNotFound, "holds no image");
  if (found.empty()) {
    return Error(Errc::kNotFound, "has no image " + reference + "; " + list_tags());
  }
  if (!reference.empty()) return Error(Errc::kInvalid, "holds several images " + reference);
  return Error(Errc::kInvalid,
               "holds several images; " + list_tags() + "; name one as " + name_ + ":TAG");
}

Result<Document> DockerArchive::get_manifest(const std::string& reference) {
  auto image = find(reference);
  if (!image) return image.error().with_context(name_);
  auto manifest = make_manifest(**image);
  if (!manifest) return manifest.error().with_context(name_);
  return Document::make(media_type::kOciManifest, manifest->to_json());
}

Result<Manifest> DockerArchive::make_manifest(const Listed& image) {
  IMSY_TRY_ASSIGN(const std::string text, read_config(image.config));
  IMSY_TRY_ASSIGN(const ImageConfig config, parse_config(text));
  if (config.diff_ids.size() != image.layers.size()) {
    return Error(Errc::kInvalid, "manifest.json names " + std::to_string(image.layers.size()) +
                                     " layers of an image whose configuration has " +
                                     std::to_string(config.diff_ids.size()) + " diffIDs");
  }
  Manifest manifest;
  manifest.media_type = media_type::kOciManifest;
  manifest.config.media_type = media_type::kOciConfig;
  manifest.config.digest = sha256(text);
  manifest.config.size = text.size();
  paths_[manifest.config.digest] = image.config;
  for (std::size_t i = 0; i < image.layers.size(); ++i) {
    auto layer = describe_layer(image.layers[i], config.diff_ids[i]);
    if (!layer) return layer.error().with_context("layer " + std::to_string(i + 1));
    paths_[layer->digest] = image.layers[i];
    manifest.layers.push_back(std::move(*layer));
  }
  return manifest;
}

Result<std::string> DockerArchive::read_config(const std::string& path) const {
  IMSY_TRY_ASSIGN(std::string text, read_document(*archive_, path));
  const auto promised = promised_config(path);
  if (promised && sha256(text) != *promised) {
    return Error(Errc::kCorrupt,
                 path + ": is damaged, its content does not have the digest in its name");
  }
  return text;
}

// A plain layer's digest is its diffID. Where a compressed one has no digest in its name it is
// hashed, which reads it once more.
Result<Descriptor> DockerArchive::describe_layer(const std::string& path, const Digest& diff_id) {
  IMSY_TRY_ASSIGN(const FileSet::File file, archive_->open(path));
  IMSY_TRY_ASSIGN(const Compression compression, compression_of(file));
  Descriptor layer;
  layer.media_type = layer_type(compression);
  layer.size = file.size;
  if (const auto promised = promised_blob(path)) {
    layer.digest = *promised;
  } else if (compression == Compression::kNone) {
    layer.digest = diff_id;
  } else {
    IMSY_TRY_ASSIGN(layer.digest, hash(path));
  }
  return layer;
}

Result<Digest> DockerArchive::hash(const std::string& path) {
  if (const auto known = hashed_.find(path); known != hashed_.end()) return known->second;
  IMSY_TRY_ASSIGN(const FileSet::File file, archive_->open(path));
  Bytes buffer(1u << 20);
  Hasher hasher;
  for (;;) {
    IMSY_TRY_ASSIGN(const std::size_t got, file.content->read(buffer));
    if (got == 0) return hashed_.emplace(path, hasher.finish()).first->second;
    hasher.update(ByteSpan(buffer).first(got));
  }
}

Result<std::unique_ptr<ByteReader>> DockerArchive::open_blob(const Descriptor& descriptor) {
  const auto path = paths_.find(descriptor.digest);
  if (path == paths_.end()) {
    return Error(Errc::kNotFound, name_ + ": has no blob " + descriptor.digest.to_string());
  }
  auto file = archive_->open(path->second);
  if (!file) return file.error().with_context(name_);
  return std::unique_ptr<ByteReader>(
      std::make_unique<CheckedReader>(std::move(file->content), descriptor.size, descriptor.digest,
                                      name_ + ": " + log::printable(path->second)));
}

}  // namespace

Result<std::unique_ptr<ImageSource>> open_docker_archive(const std::filesystem::path& file,
                                                         const std::filesystem::path& temporary) {
  const std::string name = "docker-archive:" + file.string();
  auto archive = Archive::open(file, temporary);
  if (!archive) return archive.error().with_context(name);
  auto text = read_document(**archive, kDockerArchiveManifest);
  if (!text) return text.error().with_context(name + ": is no docker archive");
  auto images = parse_list(*text);
  if (!images) return images.error().with_context(name);
  return std::unique_ptr<ImageSource>(
      std::make_unique<DockerArchive>(name, std::move(*archive), std::move(*images)));
}

}  // namespace imsy::oci
