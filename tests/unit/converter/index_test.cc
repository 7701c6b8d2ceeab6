// Conversions of indexes: what becomes of each kind of entry.
#include <gmock/gmock.h>

#include <fstream>

#include "converter/convert.h"
#include "converter/image_writer.h"
#include "oci/oci_archive.h"
#include "tests/unit/converter/convert_fixture.h"

namespace imsy::converter {
namespace {

using oci::Json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr std::string_view kWindowsConfig = R"({"os":"windows","rootfs":{"type":"layers"}})";
constexpr const char* kReferenceDigest = "vnd.docker.reference.digest";

Json entry_of(const oci::Document& document) {
  return document.describe().to_json();
}

class IndexTest : public ConvertTest {
 protected:
  Json image(const std::string& arch, const Json& platform) {
    Json entry = entry_of(make_image(arch, arch));
    entry["platform"] = platform;
    return entry;
  }
  Json image(const std::string& arch) {
    return image(arch, {{"os", "linux"}, {"architecture", arch}});
  }

  // As BuildKit attests what it has built.
  Json attestation(const Json& subject) {
    oci::Manifest manifest;
    manifest.media_type = oci::media_type::kOciManifest;
    manifest.config = put(*source_, oci::media_type::kOciConfig, text("{\"os\":\"unknown\"}"));
    manifest.layers = {put(*source_, "application/vnd.in-toto+json",
                           text("{\"subject\":\"" + subject["digest"].get<std::string>() + "\"}"))};
    Json entry = entry_of(put_document(manifest.media_type, manifest.to_json(), "attestation"));
    entry["platform"] = {{"os", "unknown"}, {"architecture", "unknown"}};
    entry["annotations"] = {{"vnd.docker.reference.type", "attestation-manifest"},
                            {kReferenceDigest, subject["digest"]}};
    return entry;
  }

  Json artifact(const std::string& content) {
    oci::Manifest manifest;
    manifest.media_type = oci::media_type::kOciManifest;
    manifest.artifact_type = "application/vnd.example.thing";
    manifest.config = put(*source_, oci::media_type::kOciEmpty, text("{}"));
    manifest.layers = {put(*source_, "application/vnd.example.thing", text(content))};
    return entry_of(put_document(manifest.media_type, manifest.to_json(), "artifact"));
  }

  Json windows() {
    oci::Manifest manifest;
    manifest.media_type = oci::media_type::kOciManifest;
    manifest.config = put(*source_, oci::media_type::kOciConfig, as_bytes(kWindowsConfig));
    oci::Descriptor elsewhere;
    elsewhere.media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    elsewhere.digest = sha256("elsewhere");
    elsewhere.size = 9;
    elsewhere.urls = {"https://elsewhere.example/layer"};
    manifest.layers = {elsewhere, put(*source_, oci::media_type::kOciLayer, text("layer"))};
    Json entry = entry_of(put_document(manifest.media_type, manifest.to_json(), "windows"));
    entry["platform"] = {{"os", "windows"},
                         {"architecture", "amd64"},
                         {"os.version", "10.0.20348.1"},
                         {"os.features", {"win32k"}}};
    return entry;
  }

  oci::Document put_index(const std::vector<Json>& entries, Json more = Json::object()) {
    more["schemaVersion"] = 2;
    more["manifests"] = entries;
    const auto type = more.value("mediaType", std::string(oci::media_type::kOciIndex));
    return put_document(type, more, "v1");
  }

  Json index() { return Json::parse(converted().bytes); }

  // Everything below the entry is in the target, byte for byte.
  void expect_whole(const Json& entry) {
    const auto document = target_->get_manifest(entry["digest"].get<std::string>());
    ASSERT_TRUE(document) << document.error().message();
    if (oci::is_index(document->media_type)) {
      for (const Json& below : Json::parse(document->bytes)["manifests"]) expect_whole(below);
      return;
    }
    const auto manifest = oci::parse_manifest(*document).value();
    EXPECT_TRUE(target_->get_blob(manifest.config, 1 << 20));
    for (const auto& layer : manifest.layers) {
      EXPECT_TRUE(!layer.urls.empty() || target_->get_blob(layer, 1 << 20));
    }
  }
};

TEST_F(IndexTest, StaysAnIndexWithWhatItSaysOfItsImages) {
  Json amd = image("amd64", {{"os", "linux"}, {"architecture", "amd64"}, {"os.features", {"x"}}});
  amd["annotations"] = {{"org.example.note", "kept"}};
  amd["x-unknown"] = 1;
  const Json arm = image("arm", {{"os", "linux"}, {"architecture", "arm"}, {"variant", "v7"}});
  const Json subject = artifact("subject");
  put_index({amd, arm}, {{"annotations", {{"org.example.index", "kept"}}}, {"subject", subject}});
  const auto report = run().value();

  const Json made = index();
  EXPECT_EQ(made["mediaType"], oci::media_type::kOciIndex);
  EXPECT_EQ(made["annotations"]["org.example.index"], "kept");
  EXPECT_FALSE(made.contains("subject"));
  ASSERT_THAT(made["manifests"], SizeIs(2));
  const Json& first = made["manifests"][0];
  EXPECT_EQ(first["platform"], amd["platform"]);
  EXPECT_EQ(first["annotations"], amd["annotations"]);
  EXPECT_EQ(first["x-unknown"], 1);
  EXPECT_EQ(first["digest"], report.images[0].manifest.to_string());
  EXPECT_EQ(made["manifests"][1]["platform"]["variant"], "v7");
  EXPECT_EQ(converted().digest, report.digest);
  for (const auto& one : report.images) {
    const auto referrers = target_->get_referrers(one.manifest).value();
    ASSERT_THAT(referrers, SizeIs(1));
    EXPECT_EQ(referrers[0].artifact_type, kArtifactType);
  }
}

TEST_F(IndexTest, ADockerListBecomesAnOciIndex) {
  put_index({image("amd64")}, {{"mediaType", oci::media_type::kDockerIndex}});
  const auto report = run();
  ASSERT_TRUE(report) << report.error().message();
  EXPECT_EQ(converted().media_type, oci::media_type::kOciIndex);
  EXPECT_EQ(index()["mediaType"], oci::media_type::kOciIndex);
}

TEST_F(IndexTest, AttestationsFollowTheirImage) {
  const Json amd = image("amd64");
  const Json statement = attestation(amd);
  put_index({amd, statement});
  const auto report = run().value();
  ASSERT_THAT(index()["manifests"], SizeIs(2));
  const Json carried = index()["manifests"][1];
  EXPECT_EQ(carried["digest"], statement["digest"]) << "the statement itself is not touched";
  EXPECT_EQ(carried["platform"], statement["platform"]);
  EXPECT_EQ(carried["annotations"]["vnd.docker.reference.type"], "attestation-manifest");
  EXPECT_EQ(carried["annotations"][kReferenceDigest], report.images[0].manifest.to_string());
  expect_whole(carried);
  EXPECT_THAT(report.carried, SizeIs(1));
  EXPECT_GT(report.carried_transfers.sent, 0u);
}

TEST_F(IndexTest, ChoosingImagesLeavesTheOthersOut) {
  const Json amd = image("amd64");
  const Json arm = image("arm64");
  const Json riscv = image("riscv64");
  put_index({amd, arm, riscv, attestation(amd), attestation(arm), artifact("thing"), windows()});
  const auto report = run({"linux/aarch64", "linux/riscv64"}).value();
  ASSERT_THAT(report.images, SizeIs(2));
  ASSERT_THAT(index()["manifests"], SizeIs(3)) << "an index still";
  EXPECT_EQ(index()["manifests"][0]["platform"]["architecture"], "arm64");
  EXPECT_EQ(index()["manifests"][2]["annotations"][kReferenceDigest],
            report.images[0].manifest.to_string());
}

TEST_F(IndexTest, EveryChosenPlatformMustBeThere) {
  put_index({image("amd64"), windows()});
  for (const auto& [platform, complaint] :
       {std::pair("linux/riscv64", "no image for platform linux/riscv64"),
        std::pair("windows/amd64", "only images for linux")}) {
    const auto none = run({"linux/amd64", platform});
    ASSERT_FALSE(none) << platform;
    EXPECT_THAT(none.error().message(), HasSubstr(complaint));
    EXPECT_FALSE(target_->find("c1"));
    EXPECT_THAT(target_->entries().value(), IsEmpty()) << "nothing was begun";
  }
}

TEST_F(IndexTest, WhatIsNoImageForLinuxGoesThroughAsItIs) {
  Json nested_index{{"schemaVersion", 2},
                    {"mediaType", oci::media_type::kOciIndex},
                    {"manifests", {artifact("one"), artifact("two")}}};
  const Json nested = entry_of(put_document(oci::media_type::kOciIndex, nested_index, "nested"));
  const std::vector<Json> others = {artifact("three"), windows(), nested};
  std::vector<Json> entries = others;
  entries.insert(entries.begin(), image("amd64"));
  put_index(entries);
  const auto report = run().value();
  ASSERT_THAT(index()["manifests"], SizeIs(4));
  for (std::size_t i = 0; i < others.size(); ++i) {
    EXPECT_EQ(index()["manifests"][i + 1], others[i]);
    expect_whole(others[i]);
  }
  EXPECT_THAT(report.images, SizeIs(1));
  EXPECT_THAT(report.left_out, IsEmpty());
  const auto again = run()->carried_transfers;
  EXPECT_EQ(again.sent, 0u);
  EXPECT_EQ(again.was_there, std::string("onetwothree{}{}{}layer").size() + kWindowsConfig.size())
      << "what lies elsewhere is neither sent nor there";
}

TEST_F(IndexTest, WhatCannotBeCarriedIsLeftOutAndSaid) {
  const Json amd = image("amd64");
  Json unknown = amd;
  unknown["mediaType"] = "application/vnd.example.other+json";
  unknown["digest"] = sha256("unknown").to_string();
  Json absent = attestation(amd);
  absent["digest"] = sha256("absent").to_string();
  Json unnamed = absent;  // no platform: it may have been an image, or anything
  unnamed.erase("platform");
  unnamed.erase("annotations");
  put_index({unknown, amd, absent, unnamed});
  const auto report = run().value();
  ASSERT_THAT(index()["manifests"], SizeIs(1));
  ASSERT_THAT(report.left_out, SizeIs(3));
  EXPECT_THAT(report.left_out[0].reason, HasSubstr("application/vnd.example.other+json"));
  EXPECT_EQ(report.left_out[1].digest, sha256("absent"));
}

// A repository that fails in its own way; the rest is a layout's.
class FailingTarget : public oci::ImageTarget {
 public:
  explicit FailingTarget(oci::ImageTarget& under) : under_(under) {}
  std::string name() const override { return under_.name(); }
  Result<std::unique_ptr<oci::BlobWriter>> create_blob() override { return under_.create_blob(); }
  Result<oci::Arrival> put_blob(ByteSpan data, const Digest& digest) override {
    return under_.put_blob(data, digest);
  }
  Result<oci::Arrival> copy_blob(oci::ImageSource& from, const oci::Descriptor& blob) override {
    if (copy_error) return Error(*copy_error, "copying fails");
    return under_.copy_blob(from, blob);
  }
  Status put_manifest(const oci::Document& document, const std::string& tag) override {
    if (put_error && document.digest == refused) return Error(*put_error, "putting fails");
    return under_.put_manifest(document, tag);
  }

  std::optional<Errc> copy_error;
  std::optional<Errc> put_error;
  Digest refused;

 private:
  oci::ImageTarget& under_;
};

TEST_F(IndexTest, ATargetThatFailsLeavesNothingOut) {
  const Json amd = image("amd64");
  const Json statement = attestation(amd);
  put_index({amd, statement});
  FailingTarget target(*target_);
  target.refused = Digest::parse(statement["digest"].get<std::string>()).value();
  for (const Errc code : {Errc::kInvalid, Errc::kNotFound, Errc::kUnavailable, Errc::kNoSpace}) {
    target.copy_error = code;
    EXPECT_FALSE(run_to(target)) << to_string(code);
    target.copy_error.reset();
    target.put_error = code;
    EXPECT_EQ(bool(run_to(target)), code == Errc::kInvalid) << "it takes no such manifest";
    target.put_error.reset();
  }
  EXPECT_THAT(run_to(target)->left_out, IsEmpty());
}

TEST_F(IndexTest, ADamagedAttestationIsAnError) {
  const Json amd = image("amd64");
  const Json statement = attestation(amd);
  const auto manifest =
      oci::parse_manifest(source_->get_manifest(statement["digest"].get<std::string>()).value())
          .value();
  std::ofstream(directory_ / "source/blobs/sha256" / manifest.layers[0].digest.hex())
      << std::string(manifest.layers[0].size, '!');
  put_index({amd, statement});
  const auto result = run();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::kCorrupt);
  EXPECT_FALSE(target_->find("c1"));
}

TEST_F(IndexTest, OneImageUnderSeveralPlatformsIsConvertedOnce) {
  Json amd = image("amd64");
  Json again = amd;
  again["platform"]["variant"] = "v2";
  put_index({amd, again, amd});
  const auto report = run().value();
  EXPECT_THAT(report.images, SizeIs(1));
  ASSERT_THAT(index()["manifests"], SizeIs(3));
  EXPECT_EQ(index()["manifests"][1]["platform"]["variant"], "v2");
  EXPECT_EQ(index()["manifests"][0]["digest"], index()["manifests"][1]["digest"]);
}

TEST_F(IndexTest, EntriesMayBeSilentAboutTheirPlatform) {
  Json amd = image("amd64");
  Json arm = image("arm64");
  amd.erase("platform");
  arm.erase("platform");
  put_index({amd, arm});
  EXPECT_THAT(run()->images, SizeIs(2));
  const auto chosen = run({"linux/arm64"}).value();
  ASSERT_THAT(chosen.images, SizeIs(1));
  EXPECT_EQ(chosen.images[0].platform, "linux/arm64");
  EXPECT_FALSE(run({"linux/s390x"}));
}

TEST_F(IndexTest, AnIndexWithoutImagesIsRefused) {
  put_index({artifact("thing"), windows()});
  const auto result = run();
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message(), HasSubstr("no image that can be converted"));
  EXPECT_FALSE(target_->find("c1"));
}

TEST_F(IndexTest, WithOneOfItsImagesIsConvertedByPlatform) {
  const Json amd = image("amd64");
  Json arm = amd;
  arm["platform"]["architecture"] = "arm64";
  arm["digest"] = sha256("not in the layout").to_string();
  Json statement = attestation(amd);
  statement["digest"] = sha256("not there either").to_string();
  put_index({amd, arm, statement});
  const auto all = run();
  ASSERT_FALSE(all);
  EXPECT_THAT(all.error().message(), HasSubstr("linux/arm64"));
  EXPECT_THAT(all.error().message(), HasSubstr("--platform"));
  EXPECT_FALSE(target_->find("c1"));
  const auto one = run({"linux/amd64"}).value();
  EXPECT_THAT(one.left_out, SizeIs(1));
}

TEST_F(IndexTest, WhatEntriesSayMustBeTrue) {
  const Json amd = image("amd64");
  const Json statement = attestation(amd);
  for (const std::size_t entry : {0, 1}) {
    for (const auto& [key, value] : std::vector<std::pair<const char*, Json>>{
             {"size", 1}, {"mediaType", oci::media_type::kDockerManifest}}) {
      std::vector<Json> entries = {amd, statement};
      entries[entry][key] = value;
      put_index(entries);
      const auto refused = run();
      ASSERT_FALSE(refused) << entry << key;
      EXPECT_EQ(refused.error().code(), Errc::kCorrupt);
      EXPECT_THAT(refused.error().message(), HasSubstr(entries[entry]["digest"].get<std::string>()))
          << key;
      EXPECT_FALSE(target_->find("c1"));
    }
  }
}

TEST_F(IndexTest, NestingHasALimit) {
  Json entry = artifact("deep");
  for (int depth = 0; depth < 8; ++depth) {
    const Json index{{"schemaVersion", 2},
                     {"mediaType", oci::media_type::kOciIndex},
                     {"manifests", Json::array({entry})}};
    entry = entry_of(put_document(oci::media_type::kOciIndex, index, "nested"));
  }
  put_index({image("amd64"), entry});
  const auto report = run().value();
  ASSERT_THAT(report.left_out, SizeIs(1));
  EXPECT_THAT(report.left_out[0].reason, HasSubstr("nested too deeply"));
}

TEST(PlatformTest, SpellingsOfOnePlatformAreTheSame) {
  const auto same = [](const char* a, const char* b) {
    return same_platform(parse_platform(a).value(), parse_platform(b).value());
  };
  EXPECT_TRUE(same("linux/x86_64", "linux/amd64"));
  EXPECT_TRUE(same("linux/aarch64", "linux/arm64/v8"));
  EXPECT_TRUE(same("linux/arm", "linux/arm/v7"));
  EXPECT_FALSE(same("linux/arm/v6", "linux/arm/v7"));
  EXPECT_FALSE(same("linux/amd64", "linux/amd64/v3"));
  EXPECT_FALSE(same("linux/amd64", "freebsd/amd64"));
  EXPECT_EQ(platform_name(parse_platform("linux/armhf").value()), "linux/arm/v7");
  for (const char* text : {"", "linux", "linux/", "/amd64", "linux/arm/", "linux/arm/v7/x"}) {
    EXPECT_FALSE(parse_platform(text)) << text;
  }
}

}  // namespace
}  // namespace imsy::converter
