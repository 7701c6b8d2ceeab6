// Whole conversions between OCI layouts in temporary directories.
#include "converter/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "cdc/frame.h"
#include "converter/base_images.h"
#include "converter/image_writer.h"
#include "oci/layout.h"
#include "tests/unit/converter/memory_streams.h"

namespace imsy::converter {
namespace {

using oci::tar::Type;
using testing::HasSubstr;
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
                           .add(header(Type::kDirectory, "etc/"))
                           .add(header(Type::kRegular, "etc/old"), text("old"))
                           .add(header(Type::kRegular, "etc/kept"), noise(400'000, 1))
                           .finish();
    const Bytes top = TarBuilder()
                          .add(header(Type::kRegular, "etc/.wh.old"))
                          .add(header(Type::kRegular, "new"), text("new " + arch))
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

  Result<ConvertReport> run(const std::string& platform = "", unsigned jobs = 2) {
    ConvertOptions options;
    options.data_layer.level = 3;
    options.data_layer.jobs = jobs;
    options.platform = platform;
    options.temporary = directory_;
    Progress progress(false);
    const auto from = Location::parse("oci:" + (directory_ / "source").string() + ":v1").value();
    const auto to = Location::parse("oci:" + (directory_ / "target").string() + ":c1").value();
    return convert(*source_, from, *target_, to, options, progress);
  }

  oci::Manifest converted_manifest() {
    const auto entry = target_->find("c1").value();
    return oci::parse_manifest(target_->get_manifest(entry.digest.to_string()).value()).value();
  }

  std::filesystem::path directory_;
  std::unique_ptr<oci::Layout> source_;
  std::unique_ptr<oci::Layout> target_;
};

TEST_F(ConvertTest, TheAnchorProvesTheChain) {
  make_image();
  ASSERT_TRUE(run());
  const auto manifest = converted_manifest();
  ASSERT_EQ(manifest.layers.size(), 2u);
  const auto config =
      oci::parse_config(target_->get_blob(manifest.config, 1 << 20).value()).value();
  ASSERT_EQ(config.diff_ids.size(), 2u);

  const auto text = manifest.layers[0].annotations.at(std::string(annotation::kAnchor));
  const auto anchor_tar = oci::tar::marker_archive(cdc::kAnchorRecordKey, text).value();
  EXPECT_EQ(config.diff_ids[0], sha256(anchor_tar));
  EXPECT_EQ(manifest.layers[0].digest, sha256(anchor_tar));
  const auto anchor = cdc::Anchor::parse(text).value();
  EXPECT_EQ(config.diff_ids[1], anchor.data_layers[0].diff_id);
  EXPECT_EQ(manifest.layers[1].digest, anchor.data_layers[0].blob);
  EXPECT_EQ(manifest.layers[1].annotations.at(std::string(annotation::kAnchor)), text);
  EXPECT_EQ(manifest.layers[0].annotations.at(std::string(annotation::kRole)), "anchor");
  EXPECT_EQ(manifest.layers[1].annotations.at(std::string(annotation::kRole)), "data");
  EXPECT_EQ(manifest.layers[1].annotations.at(std::string(annotation::kConfig)),
            manifest.config.digest.to_string());
}

TEST_F(ConvertTest, TheChunksOfABaseAreKnown) {
  make_image();
  BaseImages bases;
  const auto ordinary = bases.add(*source_, "v1");
  ASSERT_FALSE(ordinary);
  EXPECT_EQ(ordinary.error().code(), Errc::kFailedPrecondition);
  EXPECT_EQ(bases.add(*source_, "v2").error().code(), Errc::kNotFound);
  EXPECT_TRUE(bases.chunks().empty());

  ASSERT_TRUE(run());
  ASSERT_TRUE(bases.add(*target_, "c1"));
  ASSERT_TRUE(bases.add(*target_, "c1"));
  const auto anchor = cdc::Anchor::parse(converted_manifest().layers[0].annotations.at(
                                             std::string(annotation::kAnchor)))
                          .value();
  EXPECT_EQ(bases.manifests(), std::vector<Digest>{anchor.manifest});
  EXPECT_TRUE(bases.chunks().contains(sha256(text("new amd64"))));
  EXPECT_FALSE(bases.chunks().contains(sha256(text("old"))));  // hidden by a layer
}

TEST_F(ConvertTest, AnIndexIsABaseWithAllItsImages) {
  make_image();
  ASSERT_TRUE(run());
  oci::Index index;
  index.media_type = oci::media_type::kOciIndex;
  const auto put_index = [&](const std::string& tag) {
    oci::Document document;
    document.media_type = oci::media_type::kOciIndex;
    document.bytes = index.to_json().dump();
    document.digest = sha256(document.bytes);
    ASSERT_TRUE(target_->put_manifest(document, tag));
  };
  put_index("empty");
  BaseImages bases;
  EXPECT_EQ(bases.add(*target_, "empty").error().code(), Errc::kInvalid);

  auto entry = target_->find("c1").value();
  entry.platform = oci::Platform{};
  entry.platform->os = "linux";
  entry.platform->architecture = "amd64";
  index.manifests.push_back(entry);
  put_index("index");
  ASSERT_TRUE(bases.add(*target_, "index"));
  EXPECT_EQ(bases.manifests().size(), 1u);
  EXPECT_TRUE(bases.chunks().contains(sha256(text("new amd64"))));
}

TEST_F(ConvertTest, KeepsConfigurationAndAnnotationsAndRecordsTheSource) {
  const auto original = make_image();
  ASSERT_TRUE(run());
  const auto manifest = converted_manifest();
  EXPECT_EQ(manifest.annotations.at("org.example.kept"), "yes");
  EXPECT_EQ(manifest.annotations.at(std::string(annotation::kSource)), original.digest.to_string());
  const auto config =
      oci::parse_config(target_->get_blob(manifest.config, 1 << 20).value()).value();
  EXPECT_EQ(config.json["config"]["Cmd"][0], "/new");
  EXPECT_EQ(config.json["history"].size(), 2u);
  EXPECT_EQ(config.json["created"], "2024-01-02T03:04:05Z");
}

TEST_F(ConvertTest, TheArtifactIsFoundFromTheImage) {
  make_image();
  const auto report = run().value();
  const auto referrers = target_->get_referrers(report.images[0].manifest).value();
  ASSERT_EQ(referrers.size(), 1u);
  EXPECT_EQ(referrers[0].artifact_type, kArtifactType);
  const auto artifact =
      oci::parse_manifest(target_->get_manifest(referrers[0].digest.to_string()).value()).value();
  EXPECT_EQ(artifact.subject->digest, report.images[0].manifest);
  EXPECT_EQ(artifact.layers[0].digest, converted_manifest().layers[1].digest);
}

TEST_F(ConvertTest, IsDeterministic) {
  make_image();
  const auto once = run("", 1).value();
  const auto again = run("", 8).value();
  EXPECT_EQ(once.digest, again.digest);
}

TEST_F(ConvertTest, AnIndexStaysAnIndex) {
  const auto amd = make_image("amd64", "a");
  const auto arm = make_image("arm64", "b");
  oci::Index index;
  index.media_type = oci::media_type::kOciIndex;
  for (const auto& [document, arch] : {std::pair(amd, "amd64"), std::pair(arm, "arm64")}) {
    oci::Descriptor entry;
    entry.media_type = document.media_type;
    entry.digest = document.digest;
    entry.size = document.bytes.size();
    entry.platform = oci::Platform{"linux", arch, "", ""};
    index.manifests.push_back(entry);
  }
  auto attestation = index.manifests[0];
  attestation.platform = oci::Platform{"unknown", "unknown", "", ""};
  index.manifests.push_back(attestation);
  put_document(oci::media_type::kOciIndex, index.to_json(), "v1");

  ASSERT_TRUE(run());
  const auto entry = target_->find("c1").value();
  const auto made =
      oci::parse_index(target_->get_manifest(entry.digest.to_string()).value()).value();
  ASSERT_EQ(made.manifests.size(), 2u);
  EXPECT_EQ(made.manifests[1].platform->architecture, "arm64");

  ASSERT_TRUE(run("linux/arm64"));
  const auto only = target_->find("c1").value();
  EXPECT_EQ(oci::parse_index(target_->get_manifest(only.digest.to_string()).value())
                .value()
                .manifests.size(),
            1u);
  const auto none = run("linux/riscv64");
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message(), HasSubstr("linux/riscv64"));
}

TEST_F(ConvertTest, AnIndexWithOneOfItsImagesIsConvertedByPlatform) {
  const auto amd = make_image("amd64", "a");
  oci::Index index;
  index.media_type = oci::media_type::kOciIndex;
  for (const char* arch : {"amd64", "arm64"}) {
    oci::Descriptor entry = amd.describe();
    entry.platform = oci::Platform{"linux", arch, "", ""};
    if (std::string_view(arch) == "arm64") entry.digest = sha256("not in the layout");
    index.manifests.push_back(entry);
  }
  put_document(oci::media_type::kOciIndex, index.to_json(), "v1");
  const auto all = run();
  ASSERT_FALSE(all);
  EXPECT_THAT(all.error().message(), HasSubstr("linux/arm64"));
  EXPECT_THAT(all.error().message(), HasSubstr("--platform"));
  EXPECT_FALSE(target_->find("c1"));
  EXPECT_TRUE(run("linux/amd64"));
}

// What is wrong with the source must be named, and no tag may appear in the target.
class ConvertRefuses : public ConvertTest {
 protected:
  std::string refusal() {
    const auto result = run();
    EXPECT_FALSE(target_->find("c1"));
    return result ? "accepted" : result.error().message();
  }
};

TEST_F(ConvertRefuses, AWrongDiffId) {
  const Bytes tar = TarBuilder().add(header(Type::kRegular, "a"), text("a")).finish();
  put_image("amd64", "v1", {put(*source_, oci::media_type::kOciLayer, tar)}, {sha256("other")});
  EXPECT_THAT(refusal(), HasSubstr("diffID"));
}

TEST_F(ConvertRefuses, AMissingLayer) {
  oci::Descriptor missing;
  missing.media_type = oci::media_type::kOciLayer;
  missing.digest = sha256("missing");
  missing.size = 7;
  put_image("amd64", "v1", {missing}, {sha256("missing")});
  EXPECT_THAT(refusal(), HasSubstr(missing.digest.to_string()));
}

TEST_F(ConvertRefuses, ABlobThatIsNotWhatItsDigestSays) {
  const Bytes tar = TarBuilder().add(header(Type::kRegular, "a"), text("aaaa")).finish();
  const auto layer = put(*source_, oci::media_type::kOciLayer, tar);
  Bytes other = tar;
  other[512] ^= std::byte{1};
  const auto path = directory_ / "source/blobs/sha256" / layer.digest.hex();
  ASSERT_TRUE(replace_file(path, other));
  put_image("amd64", "v1", {layer}, {sha256(other)});
  EXPECT_THAT(refusal(), HasSubstr(layer.digest.to_string()));
}

TEST_F(ConvertRefuses, LayersAndDiffIdsThatDoNotPair) {
  const Bytes tar = TarBuilder().finish();
  put_image("amd64", "v1", {put(*source_, oci::media_type::kOciLayer, tar)}, {});
  EXPECT_THAT(refusal(), HasSubstr("1 layers"));
}

TEST_F(ConvertRefuses, ForeignLayers) {
  const Bytes tar = TarBuilder().finish();
  auto layer = put(*source_, oci::media_type::kOciLayer, tar);
  layer.urls.push_back("https://elsewhere.example/layer");
  put_image("amd64", "v1", {layer}, {sha256(tar)});
  EXPECT_THAT(refusal(), HasSubstr("foreign"));
}

TEST_F(ConvertRefuses, ALayerThatIsNoTar) {
  const Bytes html = text("<html>not a layer</html>" + std::string(600, ' '));
  put_image("amd64", "v1", {put(*source_, oci::media_type::kOciLayer, html)}, {sha256(html)});
  EXPECT_THAT(refusal(), HasSubstr("layer sha256:"));
}

TEST_F(ConvertRefuses, AnEntryThatNoNodeCouldServeAndNamesLayerAndPath) {
  auto device = header(Type::kCharDevice, "dev/odd");
  device.device_major = 5000;
  const Bytes tar = TarBuilder().add(device).finish();
  const auto layer = put(*source_, oci::media_type::kOciLayer, tar);
  put_image("amd64", "v1", {layer}, {sha256(tar)});
  const auto message = refusal();
  EXPECT_THAT(message, HasSubstr("layer " + layer.digest.to_string()));
  EXPECT_THAT(message, HasSubstr("entry \"dev/odd\""));
}

TEST_F(ConvertRefuses, ATagThatIsNotThere) {
  EXPECT_THAT(refusal(), HasSubstr("v1"));
}

}  // namespace
}  // namespace imsy::converter
