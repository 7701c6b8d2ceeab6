// Layers that an image keeps elsewhere than in its registry: refused, or fetched when allowed, and
// then never with a credential.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <sstream>

#include "common/io.h"
#include "converter/cli.h"
#include "oci/foreign_blob.h"
#include "oci/layout.h"
#include "tests/support/fake_registry.h"
#include "tests/unit/converter/memory_streams.h"

namespace imsy::converter {
namespace {

using oci::tar::Type;
using testing::AllOf;
using testing::HasSubstr;
using testing_support::header;
using testing_support::noise;
using testing_support::TarBuilder;

constexpr const char* kPlace = "/elsewhere/layer";

class ForeignLayers : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "imsy-foreign-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    registry_.require_basic("user", "secret");
    // The user has a password for both, so it is nobody's merit if only one of them sees it.
    const std::string auths = R"({"auths":{")" + registry_.host() +
                              R"(":{"auth":"dXNlcjpzZWNyZXQ="},")" + elsewhere_.host() +
                              R"(":{"auth":"dXNlcjpzZWNyZXQ="}}})";
    ASSERT_TRUE(replace_file(directory_ / "config.json", as_bytes(auths)));
    ::setenv("DOCKER_CONFIG", directory_.c_str(), 1);
  }
  void TearDown() override {
    ::unsetenv("DOCKER_CONFIG");
    std::filesystem::remove_all(directory_);
  }

  // An image of one layer that lies at `urls`.
  void publish(const std::vector<std::string>& urls,
               std::string_view type = "application/vnd.oci.image.layer.nondistributable.v1.tar") {
    oci::Manifest manifest;
    manifest.media_type = oci::media_type::kOciManifest;
    const std::string config =
        oci::Json{{"architecture", "amd64"},
                  {"os", "linux"},
                  {"rootfs", {{"type", "layers"}, {"diff_ids", {sha256(layer_).to_string()}}}}}
            .dump();
    manifest.config.media_type = oci::media_type::kOciConfig;
    manifest.config.digest = registry_.add_blob(config);
    manifest.config.size = config.size();
    oci::Descriptor layer;
    layer.media_type = type;
    layer.digest = sha256(layer_);
    layer.size = layer_.size();
    layer.urls = urls;
    manifest.layers = {layer};
    const auto document = oci::Document::make(manifest.media_type, manifest.to_json());
    registry_.add_manifest("library/web", "v1", document.media_type, document.bytes);
  }

  // What is answered there from now on.
  void serve(test::FakeRegistry& at, const std::string& body) {
    at.clear_faults();
    at.fault("GET", kPlace, test::FakeRegistry::kAlways,
             [body](const test::FakeRequest&, test::FakeResponse& response) {
               response = test::FakeResponse();
               response.body = body;
             });
  }
  std::string content() const { return std::string(as_text(layer_)); }
  std::string place() const { return elsewhere_.endpoint() + kPlace; }

  // The exit code; out_ has the digest or err_ the error.
  int convert(const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"imsy-convert",
                                          "--level=1",
                                          "--tmp=" + directory_.string(),
                                          "--plain-http",
                                          registry_.host() + "/library/web:v1",
                                          "oci:" + (directory_ / "target").string() + ":v1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::vector<const char*> argv;
    for (const auto& argument : arguments) argv.push_back(argument.c_str());
    std::ostringstream out;
    std::ostringstream err;
    const int code = run(static_cast<int>(argv.size()), argv.data(), out, err);
    err_ = err.str();
    return code;
  }
  void expect_nothing_published() {
    const auto target = oci::Layout::open(directory_ / "target");
    EXPECT_TRUE(!target || (*target)->entries().value().empty());
  }
  void expect_no_credentials(const test::FakeRegistry& at) {
    EXPECT_GT(at.log().size(), 0u);
    for (const auto& request : at.log()) EXPECT_EQ(request.header("authorization"), "");
  }

  const Bytes layer_ = TarBuilder().add(header(Type::kRegular, "a"), noise(5'000'000, 1)).finish();
  std::filesystem::path directory_;
  test::FakeRegistry registry_;
  test::FakeRegistry elsewhere_;
  std::string err_;
};

TEST_F(ForeignLayers, AreRefusedByDefault) {
  for (const char* type : {"application/vnd.oci.image.layer.nondistributable.v1.tar",
                           "application/vnd.oci.image.layer.v1.tar",
                           "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}) {
    publish({place()}, type);
    EXPECT_EQ(convert({}), 1);
    EXPECT_THAT(err_, AllOf(HasSubstr("layer " + sha256(layer_).to_string()),
                            HasSubstr("--allow-foreign-layers")));
  }
  EXPECT_TRUE(elsewhere_.log().empty());
  expect_nothing_published();
}

TEST_F(ForeignLayers, ComeFromTheRegistryWhenItHasThem) {
  publish({place()});
  registry_.add_blob(content());
  EXPECT_EQ(convert({"--allow-foreign-layers"}), 0) << err_;
  EXPECT_TRUE(elsewhere_.log().empty());
}

TEST_F(ForeignLayers, ComeFromTheirAddressWithoutCredentials) {
  publish({elsewhere_.endpoint() + "/gone", place()});
  serve(elsewhere_, content());
  EXPECT_EQ(convert({"--allow-foreign-layers"}), 0) << err_;
  EXPECT_EQ(elsewhere_.count("GET", kPlace), 1u);
  expect_no_credentials(elsewhere_);
  EXPECT_GT(registry_.count("GET", "/blobs/" + sha256(layer_).to_string()), 0u)
      << "was asked first";
}

TEST_F(ForeignLayers, ServersThatAskForACredentialGetNone) {
  publish({place()});
  elsewhere_.fault("GET", kPlace, test::FakeRegistry::kAlways,
                   [this](const test::FakeRequest&, test::FakeResponse& response) {
                     response.status = 401;
                     response.set("WWW-Authenticate",
                                  "Bearer realm=\"" + elsewhere_.endpoint() + "/token\"");
                   });
  EXPECT_EQ(convert({"--allow-foreign-layers"}), 1);
  EXPECT_THAT(err_, HasSubstr("the server answers 401"));
  EXPECT_EQ(elsewhere_.count("", "/token"), 0u);
  expect_no_credentials(elsewhere_);
  expect_nothing_published();
}

TEST_F(ForeignLayers, OtherContentIsNotBelieved) {
  publish({place()});
  std::string other = content();
  other[600] = static_cast<char>(other[600] ^ 1);
  serve(elsewhere_, other);
  EXPECT_EQ(convert({"--allow-foreign-layers"}), 1);
  EXPECT_THAT(err_, AllOf(HasSubstr("layer " + sha256(layer_).to_string()),
                          HasSubstr("other content was sent")));
  serve(elsewhere_, content() + "more");
  EXPECT_EQ(convert({"--allow-foreign-layers"}), 1);
  expect_nothing_published();
}

TEST_F(ForeignLayers, RedirectsAreFollowedWithoutCredentials) {
  test::FakeRegistry third;
  publish({place()});
  elsewhere_.fault("GET", kPlace, test::FakeRegistry::kAlways,
                   [&](const test::FakeRequest&, test::FakeResponse& response) {
                     response = test::FakeResponse::redirect(third.endpoint() + kPlace);
                   });
  serve(third, content());
  EXPECT_EQ(convert({"--allow-foreign-layers"}), 0) << err_;
  expect_no_credentials(elsewhere_);
  expect_no_credentials(third);
}

TEST_F(ForeignLayers, OtherSchemesAreNotFollowed) {
  for (const char* target : {"ftp://127.0.0.1/layer", "file:///etc/passwd"}) {
    publish({place()});
    elsewhere_.clear_faults();
    elsewhere_.fault("GET", kPlace, test::FakeRegistry::kAlways,
                     [&](const test::FakeRequest&, test::FakeResponse& response) {
                       response = test::FakeResponse::redirect(target);
                     });
    EXPECT_EQ(convert({"--allow-foreign-layers"}), 1);
    EXPECT_THAT(err_, HasSubstr("redirected to a place that is not followed")) << target;
    publish({target});
    EXPECT_EQ(convert({"--allow-foreign-layers"}), 1) << target;
  }
  publish({});
  EXPECT_EQ(convert({"--allow-foreign-layers"}), 1);
  EXPECT_THAT(err_, HasSubstr("without an address"));
  expect_nothing_published();
}

// Straight to the fetching: without --plain-http even the test's registry would need a certificate.
class ForeignBlob : public ForeignLayers {
 protected:
  Result<std::string> fetch(oci::HttpClient& http, const std::string& url) {
    oci::Descriptor layer;
    layer.digest = sha256(layer_);
    layer.size = layer_.size();
    layer.urls = {url};
    IMSY_TRY_ASSIGN(const auto blob, oci::open_foreign_blob(http, layer, false));
    std::string text;
    Bytes buffer(1u << 16);
    for (;;) {
      IMSY_TRY_ASSIGN(const std::size_t got, blob->read(buffer));
      if (got == 0) return text;
      text += as_text(std::span(buffer).first(got));
    }
  }
};

TEST_F(ForeignBlob, PlainHttpIsNotSpokenUnlessAllowed) {
  oci::HttpClient http;
  serve(elsewhere_, content());
  const auto refused = fetch(http, place());
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("over https only"));
  EXPECT_TRUE(elsewhere_.log().empty());
}

TEST_F(ForeignBlob, HttpsIsNeverLeft) {
  test::FakeRegistry secure({.tls = true});
  oci::HttpClient http({.ca_file = secure.ca_file()});
  serve(secure, content());
  EXPECT_TRUE(fetch(http, secure.endpoint() + kPlace).value() == content());
  expect_no_credentials(secure);
  serve(elsewhere_, content());
  secure.clear_faults();
  secure.fault("GET", kPlace, test::FakeRegistry::kAlways,
               [this](const test::FakeRequest&, test::FakeResponse& response) {
                 response = test::FakeResponse::redirect(place());
               });
  const auto refused = fetch(http, secure.endpoint() + kPlace);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("from https to plain http"));
  EXPECT_TRUE(elsewhere_.log().empty());
}

}  // namespace
}  // namespace imsy::converter
