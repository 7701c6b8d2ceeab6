#include "tests/unit/converter/layer_images.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "oci/decompress.h"
#include "oci/file_set.h"

namespace imsy::converter::testing_support {
namespace {

class StringStream : public ByteReader {
 public:
  explicit StringStream(std::string text) : text_(std::move(text)) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    const std::size_t count = std::min(buffer.size(), text_.size() - given_);
    std::copy_n(as_bytes(text_).begin() + static_cast<std::ptrdiff_t>(given_), count,
                buffer.begin());
    given_ += count;
    return count;
  }

 private:
  const std::string text_;
  std::size_t given_ = 0;
};

class TarContent : public ByteReader {
 public:
  explicit TarContent(oci::tar::Reader& tar) : tar_(tar) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override { return tar_.read(buffer); }

 private:
  oci::tar::Reader& tar_;
};

std::string read_all(ByteReader& input) {
  std::string text;
  Bytes buffer(1u << 16);
  for (;;) {
    const std::size_t got = input.read(buffer).value();
    if (got == 0) return text;
    text += as_text(std::span(buffer).first(got));
  }
}

std::string config_for(const std::vector<LayerBytes>& layers) {
  oci::Json config{{"architecture", "amd64"},
                   {"os", "linux"},
                   {"config", oci::Json::object()},
                   {"rootfs", {{"type", "layers"}, {"diff_ids", oci::Json::array()}}}};
  for (const auto& layer : layers) {
    config["rootfs"]["diff_ids"].push_back(layer.diff_id.to_string());
  }
  return config.dump();
}

std::string line_of(const oci::tar::Header& header, ByteReader& content) {
  using oci::tar::Type;
  const std::string name = header.name;
  switch (header.type) {
    case Type::kDirectory: return name;
    case Type::kRegular: return name + "=" + read_all(content);
    case Type::kSymlink: return name + "->" + header.link;
    case Type::kHardLink: return name + "=>" + header.link;
    case Type::kFifo: return name + " p";
    case Type::kCharDevice:
    case Type::kBlockDevice:
      return name + (header.type == Type::kCharDevice ? " c " : " b ") +
             std::to_string(header.device_major) + ":" + std::to_string(header.device_minor);
  }
  return name;
}

}  // namespace

LayerBytes LayerBytes::of(std::string blob, std::string_view plain, std::string_view media_type) {
  LayerBytes layer;
  layer.descriptor.media_type = media_type;
  layer.descriptor.digest = sha256(blob);
  layer.descriptor.size = blob.size();
  layer.diff_id = sha256(plain);
  layer.open = [blob = std::move(blob)] { return std::make_unique<StringStream>(blob); };
  return layer;
}

LayerSource::LayerSource(std::vector<LayerBytes> layers)
    : layers_(std::move(layers)), config_(config_for(layers_)) {
  oci::Manifest manifest;
  manifest.media_type = oci::media_type::kOciManifest;
  manifest.config.media_type = oci::media_type::kOciConfig;
  manifest.config.digest = sha256(config_);
  manifest.config.size = config_.size();
  for (const auto& layer : layers_) manifest.layers.push_back(layer.descriptor);
  manifest_ = oci::Document::make(manifest.media_type, manifest.to_json());
}

Result<oci::Document> LayerSource::get_manifest(const std::string& /*object*/) {
  return manifest_;
}

Result<std::unique_ptr<ByteReader>> LayerSource::open_blob(const oci::Descriptor& descriptor) {
  std::unique_ptr<ByteReader> stream;
  if (descriptor.digest == sha256(config_)) stream = std::make_unique<StringStream>(config_);
  for (const auto& layer : layers_) {
    if (layer.descriptor.digest == descriptor.digest) stream = layer.open();
  }
  if (!stream) return Error(Errc::kNotFound, "test: has no blob " + descriptor.digest.to_string());
  return std::unique_ptr<ByteReader>(
      std::make_unique<oci::CheckedReader>(std::move(stream), descriptor.size, descriptor.digest,
                                           "blob " + descriptor.digest.to_string()));
}

LayerConversion::LayerConversion() {
  std::string name = (std::filesystem::temp_directory_path() / "imsy-layers-XXXXXX").string();
  EXPECT_NE(::mkdtemp(name.data()), nullptr);
  directory_ = name;
  target_ = oci::Layout::open_or_create(directory_ / "target").value();
}

LayerConversion::~LayerConversion() {
  std::filesystem::remove_all(directory_);
}

ConvertOptions LayerConversion::fast() {
  ConvertOptions options;
  options.data_layer.level = 1;
  options.data_layer.jobs = 2;
  return options;
}

std::string LayerConversion::refusal(std::vector<LayerBytes> layers,
                                     const ConvertOptions& options) {
  LayerSource source(std::move(layers));
  ConvertOptions used = options;
  used.temporary = directory_;
  Progress progress(false);
  const auto from = Location::parse("oci:test:v1").value();
  const auto to = Location::parse("oci:" + (directory_ / "target").string() + ":v1").value();
  std::filesystem::remove_all(directory_ / "target");
  target_ = oci::Layout::open_or_create(directory_ / "target").value();
  auto converted = convert(source, from, *target_, to, used, progress);
  if (converted) {
    report_ = std::move(*converted);
    return "";
  }
  EXPECT_TRUE(target_->entries().value().empty()) << "something was published";
  std::size_t blobs = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(directory_ / "target")) {
    blobs += file.path().string().find("blobs/sha256/") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(blobs, 0u) << "something was pushed";
  return converted.error().message();
}

Result<std::unique_ptr<ByteReader>> LayerConversion::open_data_layer() {
  IMSY_TRY_ASSIGN(const auto entry, target_->find("v1"));
  IMSY_TRY_ASSIGN(const auto document, target_->get_manifest(entry.digest.to_string()));
  IMSY_TRY_ASSIGN(const auto manifest, oci::parse_manifest(document));
  return target_->open_blob(manifest.layers.back());
}

std::vector<std::string> LayerConversion::tree(std::vector<LayerBytes> layers) {
  if (const std::string problem = refusal(std::move(layers)); !problem.empty()) return {problem};
  std::vector<std::string> lines;
  const auto blob = open_data_layer().value();
  const auto plain = oci::decompress(*blob).value();
  oci::tar::Reader tar(*plain.content);
  TarContent content(tar);
  for (oci::tar::Header header; tar.next(header).value();) {
    if (header.name != "./") lines.push_back(line_of(header, content));
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

Digest LayerConversion::data_layer(std::vector<LayerBytes> layers) {
  EXPECT_EQ(refusal(std::move(layers)), "");
  return report_.images.at(0).data_layer.anchor.data_layers.at(0).blob;
}

void LayerConversion::visit_files(const Visit& visit) {
  const auto blob = open_data_layer().value();
  const auto plain = oci::decompress(*blob, {.ratio = 1'000'000}).value();
  oci::tar::Reader tar(*plain.content);
  TarContent content(tar);
  for (oci::tar::Header header; tar.next(header).value();) {
    if (header.type == oci::tar::Type::kRegular) visit(header, content);
  }
}

std::uint64_t peak_memory() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace imsy::converter::testing_support
