#include "cli/image/export.h"

#include <utility>

#include "cli/image/raw_reader.h"
#include "converter/image_writer.h"
#include "converter/proved_image.h"
#include "oci/gzip_writer.h"

namespace imsy::cli::image {
namespace {

// Measures what is written to a blob.
class MeasuredBlob : public ByteWriter {
 public:
  explicit MeasuredBlob(std::unique_ptr<oci::BlobWriter> blob) : blob_(std::move(blob)) {}

  Status write(ByteSpan data) override {
    hasher_.update(data);
    size_ += data.size();
    return blob_->write(data);
  }
  // Publishes the blob and describes it.
  Result<oci::Descriptor> commit(std::string_view media_type) {
    oci::Descriptor layer;
    layer.media_type = media_type;
    layer.digest = hasher_.finish();
    layer.size = size_;
    IMSY_TRY(blob_->commit(layer.digest));
    return layer;
  }

 private:
  const std::unique_ptr<oci::BlobWriter> blob_;
  Hasher hasher_;
  std::uint64_t size_ = 0;
};

// Decodes every frame, also those that are copied as they are.
template <typename Take>
Status each_frame(ByteReader& blob, const converter::ProvedImage& image, std::uint32_t layer,
                  Take take) {
  FrameReader frames(blob, image.manifest->objects(), layer);
  Hasher hasher;
  for (;;) {
    IMSY_TRY_ASSIGN(const bool more, frames.next());
    if (!more) break;
    hasher.update(frames.raw());
    IMSY_TRY(take(frames));
  }
  if (hasher.finish() == image.anchor.data_layers[layer].diff_id) return {};
  return Error(Errc::kCorrupt, "the tar of data layer " + std::to_string(layer) +
                                   " does not have the diffID that the anchor says");
}

Result<oci::Descriptor> export_layer(const Place& from, const converter::ProvedImage& image,
                                     std::uint32_t layer, oci::ImageTarget& to,
                                     LayerCompression compression) {
  IMSY_TRY_ASSIGN(const auto blob, from.source().open_blob(image.image.manifest.layers[layer + 1]));
  IMSY_TRY_ASSIGN(auto created, to.create_blob());
  MeasuredBlob output(std::move(created));
  switch (compression) {
    case LayerCompression::kZstd:
      IMSY_TRY(each_frame(*blob, image, layer, [&](const FrameReader& frames) {
        return output.write(frames.stored());
      }));
      return output.commit(oci::media_type::kOciLayerZstd);
    case LayerCompression::kNone:
      IMSY_TRY(each_frame(*blob, image, layer,
                          [&](const FrameReader& frames) { return output.write(frames.raw()); }));
      return output.commit(oci::media_type::kOciLayer);
    case LayerCompression::kGzip: break;
  }
  oci::GzipWriter gzip(output);
  IMSY_TRY(each_frame(*blob, image, layer,
                      [&](const FrameReader& frames) { return gzip.write(frames.raw()); }));
  IMSY_TRY(gzip.finish());
  return output.commit(oci::media_type::kOciLayerGzip);
}

// The configuration with the data layers only.
std::string plain_config(const converter::ProvedImage& image) {
  oci::Json config = image.image.config.json;
  oci::Json diff_ids = oci::Json::array();
  oci::Json history = oci::Json::array();
  for (const auto& layer : image.anchor.data_layers) {
    diff_ids.push_back(layer.diff_id.to_string());
    oci::Json entry{{"created_by", "imsy export: " + image.image.document.digest.to_string()}};
    if (config.contains("created")) entry["created"] = config["created"];
    history.push_back(std::move(entry));
  }
  config["rootfs"] = oci::Json{{"type", "layers"}, {"diff_ids", std::move(diff_ids)}};
  config["history"] = std::move(history);
  return config.dump();
}

Result<oci::Document> export_one(const Place& from, converter::SourceImage found,
                                 oci::ImageTarget& to, LayerCompression compression) {
  IMSY_TRY_ASSIGN(const converter::ProvedImage image,
                  converter::open_converted(from.source(), std::move(found)));
  oci::Manifest manifest;
  manifest.media_type = oci::media_type::kOciManifest;
  manifest.annotations = image.image.manifest.annotations;
  std::erase_if(manifest.annotations,
                [](const auto& note) { return note.first.starts_with("vnd.imsy."); });
  for (std::uint32_t i = 0; i < image.anchor.data_layers.size(); ++i) {
    IMSY_TRY_ASSIGN(auto layer, export_layer(from, image, i, to, compression));
    manifest.layers.push_back(std::move(layer));
  }
  const std::string config = plain_config(image);
  manifest.config.media_type = oci::media_type::kOciConfig;
  manifest.config.digest = sha256(config);
  manifest.config.size = config.size();
  IMSY_TRY(to.put_blob(as_bytes(config), manifest.config.digest));
  return oci::Document::make(manifest.media_type, manifest.to_json());
}

// The index `named` with other images in it.
Result<oci::Document> index_with(const oci::Document& named, std::vector<oci::Descriptor> images) {
  IMSY_TRY_ASSIGN(oci::Index index, oci::parse_index(named));
  index.media_type = oci::media_type::kOciIndex;
  index.manifests = std::move(images);
  return oci::Document::make(index.media_type, index.to_json());
}

}  // namespace

Result<Digest> export_image(const Place& from, oci::ImageTarget& to,
                            const converter::Location& location, const std::string& platform,
                            LayerCompression compression) {
  std::vector<oci::Descriptor> images;
  std::vector<Digest> made;
  oci::Document exported;
  IMSY_TRY(from.each_image(
      platform, [&](converter::SourceImage found, const oci::Descriptor& entry) -> Status {
        if (to.holds_one_image() && !images.empty()) {
          return Error(Errc::kInvalid,
                       to.name() + " can hold one image; choose one with --platform");
        }
        const oci::Platform platform_of_image = introduce(found, entry).platform;
        IMSY_TRY_ASSIGN(exported, export_one(from, std::move(found), to, compression));
        IMSY_TRY(to.put_manifest(exported, ""));
        made.push_back(exported.digest);
        images.push_back(exported.describe());
        images.back().platform = platform_of_image;
        images.back().annotations = entry.annotations;
        return {};
      }));
  if (oci::is_index(from.document().media_type)) {
    IMSY_TRY_ASSIGN(exported, index_with(from.document(), std::move(images)));
  }
  IMSY_TRY(to.put_manifest(exported, location.object.empty() ? "latest" : location.object));
  IMSY_TRY(to.finish(made));
  return exported.digest;
}

}  // namespace imsy::cli::image
