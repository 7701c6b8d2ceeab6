// Conversions into a registry that fails, forgets and already has something.
#include <gmock/gmock.h>

#include "converter/convert.h"
#include "converter/image_writer.h"
#include "converter/report.h"
#include "oci/registry.h"
#include "tests/support/fake_registry.h"
#include "tests/unit/converter/convert_fixture.h"

namespace imsy::converter {
namespace {

using test::FakeRegistry;
using test::FakeRequest;
using test::FakeResponse;

class PushTest : public ConvertTest {
 protected:
  void SetUp() override {
    ConvertTest::SetUp();
    oci::RegistryOptions options;
    options.host = oci::host_at(server_.endpoint());
    options.repository = "library/web";
    options.credentials = oci::docker_credentials("/nonexistent");
    options.first_retry_delay = std::chrono::milliseconds(1);
    registry_ = oci::Registry::open(http_, options).value();
  }

  Result<ConvertReport> push(const ConvertOptions& given = {}) {
    ConvertOptions options = given;
    options.temporary = directory_;
    Progress progress(false);
    const auto from = Location::parse("oci:" + (directory_ / "source").string() + ":v1").value();
    const auto to = Location::parse(server_.host() + "/library/web:c1").value();
    return convert(*source_, from, *registry_, to, options, progress);
  }

  static ConvertOptions forced() {
    ConvertOptions options;
    options.force = true;
    return options;
  }

  // An image whose data layer takes several pieces to upload.
  void make_large_image() {
    const Bytes tar =
        TarBuilder().add(header(oci::tar::Type::kRegular, "big"), noise(20 << 20, 7)).finish();
    put_image("amd64", "v1", {put(*source_, oci::media_type::kOciLayer, tar)}, {sha256(tar)});
  }

  FakeRegistry server_;
  oci::HttpClient http_;
  std::shared_ptr<oci::Registry> registry_;
};

TEST_F(PushTest, TheTagComesLastAndAllItNamesIsThere) {
  make_large_image();
  const auto report = push().value();
  const auto log = server_.log();
  const auto& last = log.back();
  EXPECT_EQ(last.method + " " + last.path, "PUT /v2/library/web/manifests/c1");
  const auto manifest = oci::parse_manifest(registry_->get_manifest("c1").value()).value();
  for (const auto& layer : manifest.layers) EXPECT_TRUE(server_.blob(layer.digest));
  EXPECT_TRUE(server_.blob(manifest.config.digest));
  const auto& bytes = report.images[0].transfers;
  EXPECT_GT(bytes.sent, std::uint64_t{20 << 20});
  EXPECT_EQ(bytes.was_there + bytes.mounted, 0u);
}

TEST_F(PushTest, ADataLayerThatTheRegistryLostIsWrittenAgain) {
  make_large_image();
  server_.fault("PATCH", "/uploads/", 1, [&](const FakeRequest&, FakeResponse& response) {
    server_.forget_uploads();
    response = FakeResponse();
    response.status = 404;
  });
  const auto report = push();
  ASSERT_TRUE(report) << report.error().message();
  EXPECT_TRUE(server_.blob(report->images[0].data_layer.anchor.data_layers[0].blob));
}

TEST_F(PushTest, ARegistryThatLosesEverythingIsGivenUp) {
  make_large_image();
  server_.fault("PATCH", "/uploads/", FakeRegistry::kAlways,
                [](const FakeRequest&, FakeResponse& response) { response.status = 404; });
  const auto report = push();
  ASSERT_FALSE(report);
  EXPECT_THAT(report.error().message(), testing::HasSubstr("has lost what it got"));
  EXPECT_FALSE(server_.manifest("library/web", "c1"));
}

class RepeatedTest : public PushTest {
 protected:
  void SetUp() override {
    PushTest::SetUp();
    source_document_ = make_image();
    first_ = push().value();
    server_.clear_log();
  }
  // Whether an image went to the registry again.
  bool converts(const ConvertOptions& options = {}) {
    server_.clear_log();
    const auto again = push(options);
    EXPECT_TRUE(again) << again.error().message();
    if (!again) return false;
    EXPECT_EQ(again->images[0].reused, again->images[0].data_layer.frames == 0);
    return !again->images[0].reused;
  }

  oci::Document source_document_;
  ConvertReport first_;
};

TEST_F(RepeatedTest, WhatIsThereIsNotConvertedAgain) {
  const auto again = push().value();
  EXPECT_EQ(again.digest, first_.digest);
  ASSERT_TRUE(again.images[0].reused);
  EXPECT_EQ(again.images[0].manifest, first_.images[0].manifest);
  EXPECT_EQ(again.images[0].artifact, first_.images[0].artifact);
  EXPECT_EQ(again.images[0].data_layer.anchor, first_.images[0].data_layer.anchor);
  EXPECT_EQ(server_.count("POST", ""), 0u);
  EXPECT_EQ(server_.count("PUT", ""), 1u) << "the tag";
}

TEST_F(PushTest, RecordsAreFoundWithoutTheReferrersApi) {
  server_.enable_referrers(false);
  make_image();
  EXPECT_FALSE(push()->images[0].reused);
  EXPECT_TRUE(push()->images[0].reused);
}

TEST_F(RepeatedTest, OtherOptionsAndForceConvert) {
  ConvertOptions other;
  other.data_layer.level = 2;
  EXPECT_TRUE(converts(other));
  EXPECT_FALSE(converts(other)) << "now that one is known as well";
  ConvertOptions after_others;
  after_others.data_layer.bases = std::make_shared<BaseImages>();
  EXPECT_TRUE(converts(after_others));
  ConvertOptions in_order;
  ASSERT_TRUE(in_order.profile.add({"etc/kept"}));
  EXPECT_TRUE(converts(in_order));
  EXPECT_FALSE(converts());
  EXPECT_TRUE(converts(forced()));
  ConvertOptions jobs;
  jobs.data_layer.jobs = 7;
  EXPECT_FALSE(converts(jobs)) << "the result does not depend on them";
}

TEST_F(RepeatedTest, WhatLacksAPartIsConverted) {
  const auto manifest = oci::parse_manifest(registry_->get_manifest("c1").value()).value();
  for (const Digest& part :
       {manifest.config.digest, manifest.layers[0].digest, manifest.layers[1].digest}) {
    server_.remove_blob(part);
    EXPECT_TRUE(converts()) << part.to_string();
    EXPECT_TRUE(server_.blob(part));
  }
  // Manifests that are gone, or that the registry cannot give now.
  for (const Digest& gone : {first_.images[0].manifest, *first_.images[0].artifact}) {
    server_.fault("GET", "/manifests/" + gone.to_string(), 1,
                  [](const FakeRequest&, FakeResponse& response) {
                    response = FakeResponse();
                    response.status = 404;
                  });
    EXPECT_TRUE(converts());
  }
  server_.fault("GET", "/referrers/", 1,
                [](const FakeRequest&, FakeResponse& response) { response.status = 403; });
  EXPECT_TRUE(converts());
}

TEST_F(RepeatedTest, ARecordThatLiesIsNotBelieved) {
  // Another image, complete, that was made from something else.
  make_image("arm64", "v1");
  const auto other = push().value();
  put_document(source_document_.media_type, oci::Json::parse(source_document_.bytes), "v1");
  server_.fault("GET", "/referrers/" + source_document_.digest.to_string(), 1,
                [&](const FakeRequest&, FakeResponse& response) {
                  auto list = oci::Json::parse(response.body);
                  for (auto& entry : list["manifests"]) {
                    entry["annotations"]["vnd.imsy.image.digest"] =
                        other.images[0].manifest.to_string();
                  }
                  response.body = list.dump();
                });
  const auto again = push().value();
  EXPECT_FALSE(again.images[0].reused);
  EXPECT_EQ(again.digest, first_.digest);
}

TEST_F(RepeatedTest, ReportsSayWhatWasDone) {
  const auto again = push().value();
  const auto said = to_json(first_)["images"][0];
  EXPECT_FALSE(said["reused"]);
  EXPECT_EQ(said["transfers"]["sent"], first_.images[0].transfers.sent);
  EXPECT_THAT(to_text(first_), testing::HasSubstr("linux/amd64: 0.4 MB in 0.4 MB"));
  EXPECT_TRUE(to_json(again)["images"][0]["reused"]);
  EXPECT_FALSE(to_json(again)["images"][0].contains("data_layer"));
  EXPECT_EQ(to_text(again), "linux/amd64: is there from an earlier conversion\n");
}

TEST_F(PushTest, ASmallBlobThatIsThereIsNotSentAgain) {
  make_image();
  const auto first = push().value();
  const auto again = push(forced()).value();
  EXPECT_EQ(again.digest, first.digest);
  EXPECT_EQ(again.images[0].transfers.sent, 0u);
  EXPECT_GT(again.images[0].transfers.was_there, 400'000u);
}

}  // namespace
}  // namespace imsy::converter
