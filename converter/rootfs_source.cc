#include "converter/rootfs_source.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "common/io.h"
#include "converter/directory_tar.h"
#include "converter/measured_reader.h"
#include "converter/platform.h"
#include "oci/archive.h"
#include "oci/decompress.h"
#include "oci/file_set.h"
#include "oci/layer_type.h"

namespace imsy::converter {
namespace {

using oci::Json;

// Begins to read the layer anew.
using Opener = std::function<Result<std::unique_ptr<ByteReader>>()>;

// What the layer's blob and its tar are.
struct Layer {
  oci::Descriptor descriptor;
  Digest diff_id;
};

// `plain`: the stream is the tar itself, so that one digest will do.
Result<Layer> measure(ByteReader& input, bool plain) {
  Layer layer;
  MeasuredReader blob(input);
  layer.descriptor.media_type = oci::media_type::kOciLayer;
  std::uint64_t size = 0;  // of the tar
  if (plain) {
    IMSY_TRY(read_to_end(blob));
    size = blob.size();
  } else {
    IMSY_TRY_ASSIGN(const auto inflated, oci::decompress(blob));
    MeasuredReader tar(*inflated.content);
    IMSY_TRY(read_to_end(tar));
    size = tar.size();
    layer.diff_id = tar.finish();
    layer.descriptor.media_type = oci::layer_type(inflated.found);
  }
  if (size == 0) {
    return Error(Errc::kInvalid,
                 "is empty, not even a tar without entries; has the program that should have "
                 "written it failed?");
  }
  layer.descriptor.digest = blob.finish();
  layer.descriptor.size = blob.size();
  if (plain) layer.diff_id = layer.descriptor.digest;
  return layer;
}

Result<oci::Platform> only_platform(const std::vector<oci::Platform>& platforms) {
  if (platforms.empty()) return machine_platform();
  if (platforms.size() == 1 && platforms.front().os == "linux") return platforms.front();
  return Error(Errc::kInvalid, "a root filesystem is for one platform, linux/ARCH[/VARIANT]");
}

std::string config_for(const oci::Platform& platform, const Digest& diff_id) {
  Json config{{"architecture", platform.architecture},
              {"os", platform.os},
              {"config", Json::object()},
              {"rootfs", {{"type", "layers"}, {"diff_ids", Json::array({diff_id.to_string()})}}}};
  if (!platform.variant.empty()) config["variant"] = platform.variant;
  return config.dump();
}

oci::Document manifest_for(const std::string& config, const oci::Descriptor& layer) {
  oci::Manifest manifest;
  manifest.media_type = oci::media_type::kOciManifest;
  manifest.config.media_type = oci::media_type::kOciConfig;
  manifest.config.digest = sha256(config);
  manifest.config.size = config.size();
  manifest.layers.push_back(layer);
  return oci::Document::make(manifest.media_type, manifest.to_json());
}

// The configuration, as a stream.
class Text : public ByteReader {
 public:
  explicit Text(std::string text) : text_(std::move(text)) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    const auto rest = as_bytes(text_).subspan(given_);
    const std::size_t count = std::min(buffer.size(), rest.size());
    std::copy_n(rest.begin(), count, buffer.begin());
    given_ += count;
    return count;
  }

 private:
  const std::string text_;
  std::size_t given_ = 0;
};

class RootfsSource : public oci::ImageSource {
 public:
  // `complaint`: what to say when the layer is not what it was when it was measured.
  RootfsSource(std::string name, Opener opener, std::string complaint, const Layer& layer,
               const oci::Platform& platform)
      : name_(std::move(name)),
        opener_(std::move(opener)),
        complaint_(std::move(complaint)),
        config_(config_for(platform, layer.diff_id)),
        manifest_(manifest_for(config_, layer.descriptor)) {}

  std::string name() const override { return name_; }
  Result<oci::Document> get_manifest(const std::string& object) override {
    if (object.empty() || object == manifest_.digest.to_string()) return manifest_;
    return Error(Errc::kNotFound, name_ + ": is no image and has no tag " + object);
  }
  Result<std::unique_ptr<ByteReader>> open_blob(const oci::Descriptor& descriptor) override;

 private:
  const std::string name_;
  const Opener opener_;
  const std::string complaint_;
  const std::string config_;
  const oci::Document manifest_;
};

Result<std::unique_ptr<ByteReader>> RootfsSource::open_blob(const oci::Descriptor& descriptor) {
  if (descriptor.digest == sha256(config_)) {
    return std::unique_ptr<ByteReader>(std::make_unique<Text>(config_));
  }
  auto stream = opener_();
  if (!stream) return stream.error().with_context(name_);
  return std::unique_ptr<ByteReader>(std::make_unique<oci::CheckedReader>(
      std::move(*stream), descriptor.size, descriptor.digest, name_, complaint_));
}

// The file itself, or a copy of what came through a pipe, which may be endless.
Result<std::shared_ptr<const UniqueFd>> rereadable(UniqueFd file,
                                                   const std::filesystem::path& temporary) {
  if (oci::is_seekable(file)) return std::make_shared<const UniqueFd>(std::move(file));
  IMSY_TRY_ASSIGN(UniqueFd spool, anonymous_file(temporary));
  Bytes buffer(1u << 20);
  const std::uint64_t limit = oci::DecompressLimits{}.output;
  for (std::uint64_t size = 0; size <= limit;) {
    IMSY_TRY_ASSIGN(const std::size_t got, read_some(file.get(), buffer));
    if (got == 0) return std::make_shared<const UniqueFd>(std::move(spool));
    IMSY_TRY(write_all(spool.get(), ByteSpan(buffer).first(got)));
    size += got;
  }
  return Error(Errc::kInvalid, "larger than the limit of " + std::to_string(limit) + " bytes");
}

// Makes the image of the layer that `stream` is this time, and `later` gives when it is read.
Result<std::unique_ptr<oci::ImageSource>> make_source(const std::string& name,
                                                      Result<std::unique_ptr<ByteReader>> stream,
                                                      bool plain, Opener later,
                                                      const oci::Platform& platform,
                                                      std::string complaint) {
  if (!stream) return stream.error().with_context(name);
  auto layer = measure(**stream, plain);
  if (!layer) return layer.error().with_context(name);
  return std::unique_ptr<oci::ImageSource>(std::make_unique<RootfsSource>(
      name, std::move(later), std::move(complaint), *layer, platform));
}

}  // namespace

Result<std::unique_ptr<oci::ImageSource>> open_tar(const std::filesystem::path& file,
                                                   const std::vector<oci::Platform>& platforms,
                                                   const std::filesystem::path& temporary) {
  IMSY_TRY_ASSIGN(const oci::Platform parsed, only_platform(platforms));
  const std::string name = "tar:" + file.string();
  auto input = oci::open_input(file);
  if (!input) return input.error().with_context(name);
  auto kept = rereadable(std::move(*input), temporary);
  if (!kept) return kept.error().with_context(name);
  auto size = file_size((*kept)->get());
  if (!size) return size.error().with_context(name);
  const Opener opener = [file = *kept, size = *size]() -> Result<std::unique_ptr<ByteReader>> {
    return std::unique_ptr<ByteReader>(std::make_unique<oci::FileRange>(file, 0, size));
  };
  return make_source(name, opener(), oci::is_plain(**kept), opener, parsed,
                     "changed while it was read");
}

Result<std::unique_ptr<oci::ImageSource>> open_directory(
    const std::filesystem::path& path, const std::vector<oci::Platform>& platforms) {
  IMSY_TRY_ASSIGN(const oci::Platform parsed, only_platform(platforms));
  return make_source(
      "dir:" + path.string(), open_directory_tar(path, Warn::kYes), true,
      [path] { return open_directory_tar(path, Warn::kNo); }, parsed,
      "changed while it was read; nothing may write to it meanwhile");
}

}  // namespace imsy::converter
