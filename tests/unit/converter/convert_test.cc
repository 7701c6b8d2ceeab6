// Conversions of one image.
#include "converter/convert.h"

#include <gmock/gmock.h>

#include "converter/base_images.h"
#include "converter/image_writer.h"
#include "tests/unit/converter/convert_fixture.h"

namespace imsy::converter {
namespace {

using oci::tar::Type;
using testing::HasSubstr;
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
  const auto ordinary = bases.add(source_, "v1");
  ASSERT_FALSE(ordinary);
  EXPECT_EQ(ordinary.error().code(), Errc::kFailedPrecondition);
  EXPECT_EQ(bases.add(source_, "v2").error().code(), Errc::kNotFound);
  EXPECT_TRUE(bases.chunks().empty());

  ASSERT_TRUE(run());
  ASSERT_TRUE(bases.add(target_, "c1"));
  EXPECT_TRUE(bases.chunks().contains(sha256(text("new amd64"))));
  EXPECT_FALSE(bases.chunks().contains(sha256(text("old"))));  // hidden by a layer
}

TEST_F(ConvertTest, FramesOfABaseAreNotMadeAgainAndChangeNoByte) {
  make_image();
  ASSERT_TRUE(run());
  const auto bases = std::make_shared<BaseImages>();
  ASSERT_TRUE(bases->add(target_, "c1"));
  const auto convert_with = [&](int level, std::shared_ptr<const BaseImages> with) {
    ConvertOptions options;
    options.data_layer.level = level;
    options.data_layer.bases = std::move(with);
    options.temporary = directory_;
    options.force = true;
    Progress progress(false);
    const auto from = Location::parse("oci:" + (directory_ / "source").string() + ":v1").value();
    const auto to = Location::parse("oci:" + (directory_ / "target").string() + ":c2").value();
    return convert(*source_, from, *target_, to, options, progress).value().images.at(0);
  };
  const auto alone = convert_with(3, nullptr);
  EXPECT_EQ(alone.data_layer.reused_frames, 0u);
  const auto over = convert_with(3, nullptr);
  EXPECT_GT(over.data_layer.reused_frames, 0u) << "those of what the target's tag names";
  EXPECT_EQ(over.manifest, alone.manifest);
  const auto again = convert_with(3, bases);
  EXPECT_GT(again.data_layer.reused_frames, 0u);
  EXPECT_EQ(again.manifest, alone.manifest);
  // Frames of another level would be other bytes.
  EXPECT_EQ(convert_with(4, bases).data_layer.reused_frames, 0u);

  // A base that lies about its frames is not believed.
  const auto blob = again.data_layer.anchor.data_layers[0].blob.to_string().substr(7);
  const auto path = directory_ / "target" / "blobs" / "sha256" / blob;
  Bytes bytes = read_file(path, 1 << 30).value();
  for (std::size_t i = 100; i < 200; ++i) bytes[i] ^= std::byte{0xFF};
  ASSERT_TRUE(replace_file(path, bytes, 0644));
  const auto spoilt = convert_with(3, bases);
  EXPECT_LT(spoilt.data_layer.reused_frames, again.data_layer.reused_frames);
  EXPECT_EQ(spoilt.manifest, alone.manifest);
}

TEST_F(ConvertTest, WhatNoBaseHasStandsTogether) {
  const auto convert_files = [&](unsigned changed_every, std::shared_ptr<const BaseImages> bases) {
    TarBuilder files;
    for (unsigned i = 0; i < 300; ++i) {
      files.add(header(Type::kRegular, "file-" + std::to_string(i)),
                noise(2000, i % changed_every == 0 ? 1000 + i : i));
    }
    const Bytes layer = files.finish();
    put_image("amd64", "v1", {put(*source_, oci::media_type::kOciLayer, layer)}, {sha256(layer)});
    ConvertOptions options;
    options.data_layer.bases = std::move(bases);
    options.temporary = directory_;
    Progress progress(false);
    const auto from = Location::parse("oci:" + (directory_ / "source").string() + ":v1").value();
    const auto to = Location::parse("oci:" + (directory_ / "target").string() + ":c1").value();
    const auto report = convert(*source_, from, *target_, to, options, progress).value();
    auto image = read_image(*target_, target_->get_manifest(report.digest.to_string()).value());
    return open_converted(*target_, std::move(image).value()).value().manifest;
  };
  const auto old = convert_files(1000, nullptr);
  const auto bases = std::make_shared<BaseImages>();
  ASSERT_TRUE(bases->add(target_, "c1"));
  const auto unaware = convert_files(10, nullptr);
  EXPECT_EQ(unaware->objects().frame_count(), 1u);
  const auto manifest = convert_files(10, bases);
  const auto& objects = manifest->objects();
  EXPECT_EQ(objects.frame_count(), 2u);
  for (std::uint32_t f = 0; f < objects.frame_count(); ++f) {
    std::set<bool> kinds;
    for (const std::uint32_t c : objects.chunks_in_frame(f)) {
      kinds.insert(bases->chunks().contains(objects.chunk(c).digest));
    }
    EXPECT_EQ(kinds.size(), 1u) << f;
  }
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
  EXPECT_EQ(bases.add(target_, "empty").error().code(), Errc::kInvalid);

  auto entry = target_->find("c1").value();
  entry.platform = oci::Platform{};
  entry.platform->os = "linux";
  entry.platform->architecture = "amd64";
  index.manifests.push_back(entry);
  put_index("index");
  ASSERT_TRUE(bases.add(target_, "index"));
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
  const auto once = run({}, 1).value();
  const auto again = run({}, 8).value();
  EXPECT_EQ(once.digest, again.digest);
}

TEST_F(ConvertTest, AChosenPlatformMustBeTheImages) {
  make_image("arm64");
  const auto other = run({"linux/amd64"});
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), Errc::kNotFound);
  EXPECT_THAT(other.error().message(), HasSubstr("for linux/arm64, not for linux/amd64"));
  EXPECT_TRUE(run({"linux/aarch64"}));
  const auto both = run({"linux/amd64", "linux/aarch64"});
  ASSERT_FALSE(both) << "a pipeline that asks for two wants both";
  EXPECT_THAT(both.error().message(), HasSubstr("for linux/arm64, not for linux/amd64"));
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

TEST_F(ConvertRefuses, ImagesThatAreNotForLinux) {
  const Bytes tar = TarBuilder().finish();
  oci::Json config{{"architecture", "amd64"},
                   {"os", "windows"},
                   {"rootfs", {{"type", "layers"}, {"diff_ids", {sha256(tar).to_string()}}}}};
  oci::Manifest manifest;
  manifest.media_type = oci::media_type::kOciManifest;
  manifest.config = put(*source_, oci::media_type::kOciConfig, as_bytes(config.dump()));
  manifest.layers = {put(*source_, oci::media_type::kOciLayer, tar)};
  put_document(manifest.media_type, manifest.to_json(), "v1");
  EXPECT_THAT(refusal(), HasSubstr("windows/amd64; only images for linux"));
}

TEST_F(ConvertTest, WhatWasBuiltUponAConvertedImageIsConvertedAnew) {
  make_image();
  ASSERT_TRUE(run());
  // Builders keep the descriptors of the layers below, with their annotations.
  auto manifest = converted_manifest();
  const auto config =
      oci::parse_config(target_->get_blob(manifest.config, 1 << 20).value()).value();
  std::vector<Digest> diff_ids = config.diff_ids;
  for (const auto& layer : manifest.layers) {
    const std::string blob = target_->get_blob(layer, 1 << 24).value();
    ASSERT_TRUE(source_->put_blob(as_bytes(blob), layer.digest));
  }
  const Bytes top = TarBuilder().add(header(Type::kRegular, "added"), text("added")).finish();
  manifest.layers.push_back(put(*source_, oci::media_type::kOciLayer, top));
  diff_ids.push_back(sha256(top));
  put_image("amd64", "v1", manifest.layers, diff_ids);
  const auto again = run();
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(converted_manifest().layers.size(), 2U);
}

TEST_F(ConvertRefuses, WhatIsConvertedAlready) {
  const auto original = make_image();
  ASSERT_TRUE(run());
  const auto done = converted();
  const auto from = Location::parse("oci:" + (directory_ / "target").string() + ":c1").value();
  const auto to = Location::parse("oci:" + (directory_ / "target").string() + ":c2").value();
  ConvertOptions options;
  options.temporary = directory_;
  Progress progress(false);
  oci::Index index;
  index.media_type = oci::media_type::kOciIndex;
  index.manifests = {done.describe()};
  const auto refused = [&](const oci::Document& document) {
    ASSERT_TRUE(target_->put_manifest(document, "c1"));
    const auto again = convert(*target_, from, *target_, to, options, progress);
    ASSERT_FALSE(again);
    EXPECT_THAT(again.error().message(),
                HasSubstr("is converted already, from " + original.digest.to_string()));
    EXPECT_FALSE(target_->find("c2"));
  };
  refused(done);
  refused(oci::Document::make(index.media_type, index.to_json()));
}

TEST_F(ConvertRefuses, WhatIsNoImage) {
  oci::Manifest artifact;
  artifact.media_type = oci::media_type::kOciManifest;
  artifact.artifact_type = "application/vnd.example";
  artifact.config = put(*source_, oci::media_type::kOciEmpty, text("{}"));
  put_document(artifact.media_type, artifact.to_json(), "v1");
  EXPECT_THAT(refusal(), HasSubstr("is no image"));
}

TEST_F(ConvertRefuses, ATagThatIsNotThere) {
  EXPECT_THAT(refusal(), HasSubstr("v1"));
}

}  // namespace
}  // namespace imsy::converter
