#include <optional>
#include <utility>
#include <vector>

#include "oci/docker_archive.h"
#include "oci/layout_reader.h"
#include "oci/oci_archive.h"
#include "oci/reference.h"

namespace imsy::oci {
namespace {

constexpr const char* kContainerdName = "io.containerd.image.name";
constexpr const char* kScheme = "docker-archive:";

class DockerArchiveTarget : public ImageTarget {
 public:
  DockerArchiveTarget(std::string name, std::unique_ptr<ArchiveTarget> archive,
                      std::optional<Reference> reference)
      : name_(std::move(name)), archive_(std::move(archive)), reference_(std::move(reference)) {}

  std::string name() const override { return name_; }
  bool holds_one_image() const override { return true; }
  Result<std::unique_ptr<BlobWriter>> create_blob() override { return archive_->create_blob(); }
  Result<Arrival> put_blob(ByteSpan data, const Digest& digest) override {
    return archive_->put_blob(data, digest);
  }
  Result<Arrival> copy_blob(ImageSource& from, const Descriptor& blob) override {
    return archive_->copy_blob(from, blob);
  }
  Status put_manifest(const Document& document, const std::string& tag) override;
  Status finish(const std::vector<Digest>& images) override;

 private:
  const std::string name_;
  const std::unique_ptr<ArchiveTarget> archive_;
  const std::optional<Reference> reference_;
  std::vector<Document> manifests_;  // of what may be the image
};

Status DockerArchiveTarget::put_manifest(const Document& document, const std::string& tag) {
  if (is_manifest(document.media_type)) manifests_.push_back(document);
  if (tag.empty()) return archive_->put_manifest(document, "");
  return archive_->put_manifest(document, reference_ ? reference_->tag : tag);
}

Status DockerArchiveTarget::finish(const std::vector<Digest>& images) {
  if (images.size() != 1) return Error(Errc::kInvalid, name_ + ": can hold one image");
  for (const Document& document : manifests_) {
    if (document.digest != images.front()) continue;
    IMSY_TRY_ASSIGN(const Manifest manifest, parse_manifest(document));
    Json layers = Json::array();
    for (const Descriptor& layer : manifest.layers) {
      layers.push_back(layout_file::blob_path(layer.digest));
    }
    Json tags = Json::array();
    if (reference_) tags.push_back(reference_->to_string());
    const Json entry{{"Config", layout_file::blob_path(manifest.config.digest)},
                     {"RepoTags", std::move(tags)},
                     {"Layers", std::move(layers)}};
    IMSY_TRY(archive_->add_file(kDockerArchiveManifest, as_bytes(Json::array({entry}).dump())));
    return archive_->finish(images);
  }
  return Error(Errc::kInvalid, name_ + ": the image was not written");
}

}  // namespace

Result<std::unique_ptr<ImageTarget>> create_docker_archive(const std::filesystem::path& file,
                                                           const std::string& reference,
                                                           const std::filesystem::path& temporary) {
  const std::string name = kScheme + file.string();
  std::optional<Reference> parsed;
  std::map<std::string, std::string> annotations;
  if (!reference.empty()) {
    IMSY_TRY_ASSIGN(parsed, Reference::parse(reference));
    if (parsed->digest) {
      return Error(Errc::kInvalid, name + ": the image needs a tag, not a digest");
    }
    annotations[kContainerdName] = parsed->to_string();
  }
  auto archive = create_oci_archive(file, temporary, annotations, kScheme);
  if (!archive) return archive.error();
  return std::unique_ptr<ImageTarget>(
      std::make_unique<DockerArchiveTarget>(name, std::move(*archive), std::move(parsed)));
}

}  // namespace imsy::oci
