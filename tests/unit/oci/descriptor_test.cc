#include "oci/descriptor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "oci/base64.h"

namespace imsy::oci {
namespace {

using ::testing::HasSubstr;

Json descriptor_json(std::string_view content = "x") {
  return {{"mediaType", media_type::kOciLayerGzip},
          {"digest", sha256(content).to_string()},
          {"size", content.size()}};
}

Json manifest_json() {
  return {{"schemaVersion", 2},
          {"mediaType", media_type::kOciManifest},
          {"config", descriptor_json("config")},
          {"layers", Json::array({descriptor_json("a"), descriptor_json("b")})}};
}

Document document(const Json& json, std::string_view type) {
  const std::string bytes = json.dump();
  return {std::string(type), sha256(bytes), bytes};
}

void expect_invalid(const Result<Descriptor>& result, std::string_view message) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::kInvalid);
  EXPECT_THAT(result.error().message(), HasSubstr(std::string(message)));
}

TEST(ParseJson, TakesWhatIsStrict) {
  auto json = parse_json(R"( {"b":[1,-2,{"c":null}],"a":"\u00e9","n":18446744073709551615} )", "t");
  ASSERT_TRUE(json) << json.error().message();
  EXPECT_EQ(json->dump(),
            "{\"a\":\"\xC3\xA9\",\"b\":[1,-2,{\"c\":null}],\"n\":18446744073709551615}");
}

TEST(ParseJson, RefusesWhatIsNot) {
  const std::string cases[] = {
      "",
      "{",
      "{} {}",
      "{\"a\":1,}",
      "{\"a\":1,\"a\":1}",
      "{\"x\":{\"a\":1,\"b\":2,\"\\u0061\":3}}",
      "{\"a\":1.0}",
      "{\"a\":1e3}",
      "{\"a\":18446744073709551616}",
      "{\"a\":NaN}",
      "{\"a\":01}",
      "{'a':1}",
      "/* c */ {}",
      "\"\xFF\"",
      "\"\\ud800\"",
      "\xEF\xBB\xBF{}",
      std::string("{}\0", 3),
      std::string("{}\0{", 4),
  };
  for (const std::string& text : cases) {
    auto json = parse_json(text, "t");
    ASSERT_FALSE(json) << text;
    EXPECT_EQ(json.error().code(), Errc::kInvalid) << text;
  }
}

TEST(ParseJson, HoldsItsLimits) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(parse_json(nested(64), "t"));
  EXPECT_FALSE(parse_json(nested(65), "t"));
  EXPECT_FALSE(parse_json(std::string(1'000'000, '['), "t"));
  const std::string padded = "{}" + std::string(kDocumentLimit - 2, ' ');
  EXPECT_TRUE(parse_json(padded, "t"));
  EXPECT_FALSE(parse_json(padded + " ", "t"));
}

TEST(ParseJson, DoesNotQuoteTheInput) {
  auto json = parse_json(R"({"auth": "c2VjcmV0" oops})", "config.json");
  ASSERT_FALSE(json);
  EXPECT_THAT(json.error().message(), HasSubstr("config.json"));
  EXPECT_EQ(json.error().message().find("c2VjcmV0"), std::string::npos);
  EXPECT_EQ(json.error().message().find("oops"), std::string::npos);
}

TEST(Base64, RoundTripsAndRefusesLooseText) {
  for (const std::string_view text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
    auto decoded = base64_decode(base64_encode(as_bytes(text)));
    ASSERT_TRUE(decoded);
    EXPECT_EQ(*decoded, text);
  }
  EXPECT_EQ(base64_encode(as_bytes("fooba")), "Zm9vYmE=");
  for (const std::string_view text :
       {"Zg", "Zg=", "Z===", "====", "Zh==", "Zg==Zg==", "Zm9 ", "-_--"}) {
    EXPECT_FALSE(base64_decode(text)) << text;
  }
}

TEST(Descriptor, ReadsAllFieldsAndWritesThemBack) {
  Json json = descriptor_json("layer");
  json["annotations"] = {{"k", "v"}};
  json["platform"] = {{"os", "linux"}, {"architecture", "arm64"}, {"variant", "v8"}};
  json["artifactType"] = "application/vnd.example";
  json["urls"] = {"https://example.org/layer"};
  auto descriptor = Descriptor::from_json(json, "d");
  ASSERT_TRUE(descriptor) << descriptor.error().message();
  EXPECT_EQ(descriptor->digest, sha256("layer"));
  EXPECT_EQ(descriptor->size, 5u);
  EXPECT_EQ(descriptor->platform->variant, "v8");
  EXPECT_EQ(descriptor->urls.front(), "https://example.org/layer");
  EXPECT_EQ(descriptor->to_json(), json);
}

TEST(Descriptor, NamesTheFieldThatIsWrong) {
  struct Case {
    const char* field;
    Json value;
  };
  const Case cases[] = {
      {"size", -1},
      {"size", 9223372036854775808u},
      {"size", "5"},
      {"size", nullptr},
      {"digest", "sha256:abc"},
      {"digest", "sha512:" + std::string(128, 'a')},
      {"digest", 5},
      {"mediaType", ""},
      {"mediaType", "text"},
      {"mediaType", "text/html; charset=utf-8"},
      {"mediaType", "text/a\r\nX: y"},
      {"mediaType", 3},
      {"artifactType", "/"},
      {"annotations", Json::array()},
      {"annotations", {{"a", 1}}},
      {"urls", "https://example.org"},
      {"urls", {1}},
      {"platform", "linux"},
  };
  for (const Case& one : cases) {
    Json json = descriptor_json();
    json[one.field] = one.value;
    expect_invalid(Descriptor::from_json(json, "d"), std::string("d.") + one.field);
  }
  for (const char* field : {"mediaType", "digest", "size"}) {
    Json json = descriptor_json();
    json.erase(field);
    expect_invalid(Descriptor::from_json(json, "d"), std::string("d.") + field);
  }
  expect_invalid(Descriptor::from_json("x", "d"), "d");
}

TEST(Descriptor, RefusesKeysThatGoWouldTakeForKnownOnes) {
  Json json = descriptor_json();
  json["Digest"] = sha256("other").to_string();
  expect_invalid(Descriptor::from_json(json, "d"), "d.digest");
}

TEST(Descriptor, ChecksEmbeddedData) {
  Json json = descriptor_json("{}");
  json["data"] = "e30=";
  EXPECT_TRUE(Descriptor::from_json(json, "d"));
  json["data"] = "e30";
  expect_invalid(Descriptor::from_json(json, "d"), "d.data");
  json["data"] = base64_encode(as_bytes("[]"));
  expect_invalid(Descriptor::from_json(json, "d"), "d.data");
  json["data"] = base64_encode(as_bytes("{} "));
  expect_invalid(Descriptor::from_json(json, "d"), "d.data");
}

TEST(Manifest, ReadsOciAndDocker) {
  for (const std::string_view type : {media_type::kOciManifest, media_type::kDockerManifest}) {
    Json json = manifest_json();
    json["mediaType"] = type;
    json["subject"] = descriptor_json("subject");
    json["annotations"] = {{"k", "v"}};
    json["artifactType"] = "application/vnd.example";
    auto manifest = parse_manifest(document(json, type));
    ASSERT_TRUE(manifest) << manifest.error().message();
    EXPECT_EQ(manifest->layers.size(), 2u);
    EXPECT_EQ(manifest->subject->digest, sha256("subject"));
    EXPECT_EQ(manifest->to_json(), json);
  }
}

TEST(Manifest, TakesTheMediaTypeFromEitherPlace) {
  Json json = manifest_json();
  EXPECT_TRUE(parse_manifest(document(json, "")));
  json.erase("mediaType");
  auto manifest = parse_manifest(document(json, media_type::kOciManifest));
  ASSERT_TRUE(manifest);
  EXPECT_EQ(manifest->media_type, media_type::kOciManifest);
  EXPECT_FALSE(parse_manifest(document(json, "")));
}

TEST(Manifest, RefusesWhatCouldBeReadTwoWays) {
  EXPECT_FALSE(parse_manifest(document(manifest_json(), media_type::kDockerManifest)));
  EXPECT_FALSE(parse_manifest(document(manifest_json(), "text/html")));
  EXPECT_FALSE(parse_index(document(manifest_json(), media_type::kOciManifest)));
  struct Case {
    const char* field;
    Json value;
  };
  const Case cases[] = {
      {"schemaVersion", 1},
      {"schemaVersion", "2"},
      {"manifests", Json::array()},
      {"fsLayers", Json::array()},
      {"Layers", Json::array()},
      {"config", nullptr},
      {"layers", 5},
      {"layers", {descriptor_json(), 5}},
      {"subject", "x"},
      {"annotations", {{"a", nullptr}}},
  };
  for (const Case& one : cases) {
    Json json = manifest_json();
    json[one.field] = one.value;
    auto manifest = parse_manifest(document(json, media_type::kOciManifest));
    ASSERT_FALSE(manifest) << one.field;
    EXPECT_EQ(manifest.error().code(), Errc::kInvalid);
  }
}

TEST(Manifest, SaysWhichLayer) {
  Json json = manifest_json();
  json["layers"][1]["size"] = -1;
  auto manifest = parse_manifest(document(json, media_type::kOciManifest));
  ASSERT_FALSE(manifest);
  EXPECT_THAT(manifest.error().message(), HasSubstr(".layers[1].size"));
}

TEST(Manifest, NullLayersAreNone) {
  Json json = manifest_json();
  json["layers"] = nullptr;
  auto manifest = parse_manifest(document(json, media_type::kOciManifest));
  ASSERT_TRUE(manifest);
  EXPECT_TRUE(manifest->layers.empty());
  json.erase("layers");
  EXPECT_FALSE(parse_manifest(document(json, media_type::kOciManifest)));
}

TEST(Index, ReadsAndWritesBack) {
  Json json = {{"schemaVersion", 2},
               {"mediaType", media_type::kOciIndex},
               {"manifests", Json::array({descriptor_json("m")})}};
  json["manifests"][0]["platform"] = {
      {"os", "windows"}, {"architecture", "amd64"}, {"os.version", "10.0"}};
  auto index = parse_index(document(json, media_type::kOciIndex));
  ASSERT_TRUE(index) << index.error().message();
  EXPECT_EQ(index->manifests[0].platform->os_version, "10.0");
  EXPECT_EQ(index->to_json(), json);
  json["layers"] = Json::array();
  EXPECT_FALSE(parse_index(document(json, media_type::kOciIndex)));
}

TEST(Config, KeepsWhatItDoesNotKnow) {
  const std::string text =
      R"({"os":"linux","architecture":"arm","variant":"v7","config":{"Cmd":["sh"]},)"
      R"("rootfs":{"type":"layers","diff_ids":[")" +
      sha256("a").to_string() + R"("]},"x":[true]})";
  auto config = parse_config(text);
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->platform.os, "linux");
  EXPECT_EQ(config->platform.architecture, "arm");
  EXPECT_EQ(config->platform.variant, "v7");
  ASSERT_EQ(config->diff_ids.size(), 1u);
  EXPECT_EQ(config->diff_ids[0], sha256("a"));
  EXPECT_EQ(config->json, Json::parse(text));
}

TEST(Config, RefusesWhatIsNoImage) {
  for (const std::string_view text :
       {"[]", "{}", R"({"rootfs":{}})", R"({"rootfs":{"type":"tree"}})",
        R"({"rootfs":{"type":"layers","diff_ids":["sha256:1"]}})",
        R"({"rootfs":{"type":"layers","diff_ids":[1]}})", R"({"rootfs":{"type":"layers"},"os":1})",
        R"({"rootfs":{"type":"layers"},"Rootfs":{}})"}) {
    auto config = parse_config(text);
    ASSERT_FALSE(config) << text;
    EXPECT_EQ(config.error().code(), Errc::kInvalid) << text;
  }
}

}  // namespace
}  // namespace imsy::oci
