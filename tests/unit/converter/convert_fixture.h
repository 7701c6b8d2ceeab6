// Whole conversions between OCI layouts in temporary directories.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cdc/frame.h"
#include "converter/convert.h"
#include "converter/platform.h"
#include "oci/layout.h"
#include "tests/unit/converter/memory_streams.h"

namespace imsy::converter {

using testing_support::header;
using testing_support::noise;
using testing_support::TarBuilder;
using testing_support::text;

class ConvertTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "imsy-convert-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    source_ = oci::Layout::open_or_create(directory_ / "source").value();
    target_ = oci::Layout::open_or_create(directory_ / "target").value();
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  oci::Descriptor put(oci::Repository& repository, std::string_view media_type, ByteSpan bytes) {
    oci::Descriptor descriptor;
    descriptor.media_type = media_type;
    descriptor.digest = sha256(bytes);
    descriptor.size = bytes.size();
    EXPECT_TRUE(repository.put_blob(bytes, descriptor.digest));
    return descriptor;
  }

  // An image of two layers, the second compressed; `arch` varies the configuration.
  oci::Document make_image(const std::string& arch = "amd64", const std::string& tag = "v1") {
    const Bytes base = TarBuilder()
                           .add(header(oci::tar::Type::kDirectory, "etc/"))
                           .add(header(oci::tar::Type::kRegular, "etc/old"), text("old"))
                           .add(header(oci::tar::Type::kRegular, "etc/kept"), noise(400'000, 1))
                           .finish();
    const Bytes top = TarBuilder()
                          .add(header(oci::tar::Type::kRegular, "etc/.wh.old"))
                          .add(header(oci::tar::Type::kRegular, "new"), text("new " + arch))
                          .finish();
    const auto first = put(*source_, oci::media_type::kOciLayer, base);
    const auto second =
        put(*source_, oci::media_type::kOciLayerZstd, cdc::FrameEncoder(3).encode(top));
    return put_image(arch, tag, {first, second}, {sha256(base), sha256(top)});
  }

  oci::Document put_image(const std::string& arch, const std::string& tag,
                          std::vector<oci::Descriptor> layers, std::vector<Digest> diff_ids) {
    oci::Json config{{"architecture", arch},
                     {"os", "linux"},
                     {"created", "2024-01-02T03:04:05Z"},
                     {"config", {{"Cmd", {"/new"}}}},
                     {"history", oci::Json::array()},
                     {"rootfs", {{"type", "layers"}, {"diff_ids", oci::Json::array()}}}};
    for (const auto& id : diff_ids) config["rootfs"]["diff_ids"].push_back(id.to_string());
    oci::Manifest manifest;
    manifest.media_type = oci::media_type::kOciManifest;
    manifest.config = put(*source_, oci::media_type::kOciConfig, as_bytes(config.dump()));
    manifest.layers = std::move(layers);
    manifest.annotations["org.example.kept"] = "yes";
    return put_document(oci::media_type::kOciManifest, manifest.to_json(), tag);
  }

  oci::Document put_document(std::string_view media_type, const oci::Json& json,
                             const std::string& tag) {
    oci::Document document;
    document.media_type = media_type;
    document.bytes = json.dump();
    document.digest = sha256(document.bytes);
    EXPECT_TRUE(source_->put_manifest(document, tag));
    return document;
  }

  // `platforms`: "os/arch[/variant]" each.
  Result<ConvertReport> run(const std::vector<std::string>& platforms = {}, unsigned jobs = 2) {
    return run_to(*target_, platforms, jobs);
  }
  Result<ConvertReport> run_to(oci::ImageTarget& target,
                               const std::vector<std::string>& platforms = {}, unsigned jobs = 2) {
    ConvertOptions options;
    options.data_layer.level = 3;
    options.data_layer.jobs = jobs;
    for (const auto& text : platforms) options.platforms.push_back(parse_platform(text).value());
    options.force = true;
    options.temporary = directory_;
    Progress progress(false);
    const auto from = Location::parse("oci:" + (directory_ / "source").string() + ":v1").value();
    const auto to = Location::parse("oci:" + (directory_ / "target").string() + ":c1").value();
    return convert(*source_, from, target, to, options, progress);
  }

  // What the target's tag names.
  oci::Document converted() {
    return target_->get_manifest(target_->find("c1").value().digest.to_string()).value();
  }
  oci::Manifest converted_manifest() { return oci::parse_manifest(converted()).value(); }

  std::filesystem::path directory_;
  std::shared_ptr<oci::Layout> source_;
  std::shared_ptr<oci::Layout> target_;
};

}  // namespace imsy::converter
