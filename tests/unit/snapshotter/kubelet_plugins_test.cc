#include "snapshotter/credentials/kubelet_plugins.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "snapshotter/credentials/image_pattern.h"
#include "snapshotter/credentials/yaml.h"
#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::snapshotter {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// --- YAML ---

TEST(Yaml, IsReadAsJsonOfStrings) {
  const auto json = parse_yaml(
      "# a comment\na: 1\nb: [x, 'null', null, ~, \"\"]\nc:\n  - d: true\n    e: |\n      two\n"
      "      lines\n  - {f: g}\n",
      "c.yaml");
  ASSERT_TRUE(json) << json.error().message();
  EXPECT_EQ(*json, oci::Json::parse(R"({"a": "1", "b": ["x", "null", null, null, ""],
      "c": [{"d": "true", "e": "two\nlines\n"}, {"f": "g"}]})"));
  const auto same = parse_yaml(R"({"a": {"b": ["c", 1, true]}})", "c.json");
  ASSERT_TRUE(same) << same.error().message();
  EXPECT_EQ(*same, oci::Json::parse(R"({"a": {"b": ["c", "1", "true"]}})"));
}

TEST(Yaml, RefusesWhatGrowsOrCanBeReadTwoWays) {
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "[";
  std::string many = "[";
  for (int i = 0; i < 100'001; ++i) many += "a,";
  many += "]";
  for (const std::string& text :
       {std::string("a: &x hunter2\nb: *x\n"), std::string("a: *x\n"), std::string("a: !!int 1\n"),
        std::string("a: hunter2\na: hunter2\n"), std::string("a: b\n---\nc: d\n"), std::string(),
        std::string("a: [hunter2\n"), std::string("? {a: b}\n: c\n"), std::string("a: \"\x01\"\n"),
        deep, many}) {
    const auto json = parse_yaml(text, "c.yaml");
    ASSERT_FALSE(json) << text.substr(0, 100);
    EXPECT_EQ(json.error().code(), Errc::kInvalid);
    EXPECT_THAT(json.error().message(), HasSubstr("c.yaml line "));
    EXPECT_THAT(json.error().message(), Not(HasSubstr("hunter2")));
  }
}

// --- patterns ---

bool matches(const std::string& pattern, const std::string& host, const std::string& repository) {
  return matches_image(pattern, {host, repository});
}

TEST(ImagePattern, MatchesLabelByLabelThePortAndThePrefix) {
  EXPECT_TRUE(matches("registry.example", "registry.example", "team/web"));
  EXPECT_FALSE(matches("registry.example", "registry.example:5000", "team/web"));
  EXPECT_FALSE(matches("registry.example:5000", "registry.example", "team/web"));
  EXPECT_TRUE(matches("registry.example:5000", "registry.example:5000", "team/web"));
  EXPECT_TRUE(matches("*.example", "registry.example", "web"));
  EXPECT_FALSE(matches("*.example", "a.registry.example", "web"));
  EXPECT_FALSE(matches("*", "registry.example", "web"));
  EXPECT_TRUE(matches("*.dkr.*-1.example", "123.dkr.eu-1.example", "web"));
  EXPECT_TRUE(matches("r?gistry.ex*le", "registry.example", "web"));
  EXPECT_FALSE(matches("registry.example.evil", "registry.example", "web"));
  EXPECT_FALSE(matches("registry.example", "registry.example.evil", "web"));
  EXPECT_TRUE(matches("https://registry.example/team", "registry.example", "team/web"));
  EXPECT_FALSE(matches("registry.example/team", "registry.example", "other/team"));
  EXPECT_FALSE(matches("registry.example/team/web/more", "registry.example", "team/web"));
  EXPECT_TRUE(matches("[::1]:5000", "[::1]:5000", "web"));
  EXPECT_FALSE(matches("[::1]:5000", "[::1]:5001", "web"));
  for (const char* key : {"https://index.docker.io/v1/", "docker.io", "*.docker.io"}) {
    EXPECT_TRUE(matches(key, "docker.io", "library/web")) << key;
  }
  EXPECT_FALSE(matches("", "registry.example", "web"));
}

TEST(ImagePattern, TakesNoLongTimeOfAHostileOne) {
  std::string stars;
  for (int i = 0; i < 2'000; ++i) stars += "*a";
  EXPECT_FALSE(matches(stars + "b", std::string(4'000, 'a'), "web"));
}

// --- configuration and answers ---

constexpr const char* kGood = R"(
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: plugin
  matchImages:
  - "*.registry.example"
  - registry.example:5000/team
  defaultCacheDuration: "1h30m"
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  args: [get, --now]
  env:
  - name: PROFILE
    value: node
)";

TEST(KubeletConfig, IsRead) {
  const auto plugins = parse_kubelet_config(kGood, "c.yaml");
  ASSERT_TRUE(plugins) << plugins.error().message();
  ASSERT_EQ(plugins->size(), 1U);
  const KubeletPlugin& plugin = plugins->front();
  EXPECT_EQ(plugin.name, "plugin");
  EXPECT_THAT(plugin.match_images, ElementsAre("*.registry.example", "registry.example:5000/team"));
  EXPECT_EQ(plugin.cache_duration, std::chrono::minutes(90));
  EXPECT_THAT(plugin.arguments, ElementsAre("get", "--now"));
  EXPECT_THAT(plugin.environment, ElementsAre(std::pair("PROFILE", "node")));
}

TEST(KubeletConfig, AMistakeIsNamed) {
  const auto reason = [](const std::string& from, const std::string& to) {
    std::string text = kGood;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    const auto plugins = parse_kubelet_config(text.replace(at, from.size(), to), "c.yaml");
    EXPECT_FALSE(plugins) << to;
    return plugins ? "" : plugins.error().message();
  };
  EXPECT_THAT(reason("CredentialProviderConfig", "KubeletConfiguration"), HasSubstr("kind"));
  EXPECT_THAT(reason("name: plugin", "name: ../plugin"), HasSubstr("providers[0].name"));
  EXPECT_THAT(reason("name: plugin", "name: .."), HasSubstr("name"));
  EXPECT_THAT(reason("\"1h30m\"", "soon"), HasSubstr("defaultCacheDuration"));
  EXPECT_THAT(reason("\"1h30m\"", "99999h"), HasSubstr("defaultCacheDuration"));
  EXPECT_THAT(reason("k8s.io/v1\n  args", "k8s.io/v9\n  args"), HasSubstr("apiVersion"));
  EXPECT_THAT(reason("name: PROFILE", "name: A=B"), HasSubstr("env[0]"));
  EXPECT_THAT(reason("  args", "  tokenAttributes: {}\n  args"), HasSubstr("service account"));
  EXPECT_THAT(reason("providers:", "Providers:"), HasSubstr("roviders"));
}

TEST(KubeletConfig, DurationsAreThoseOfGo) {
  EXPECT_EQ(*parse_go_duration("0"), std::chrono::seconds(0));
  EXPECT_EQ(*parse_go_duration("12h0m5s"), std::chrono::seconds(12 * 3600 + 5));
  EXPECT_EQ(*parse_go_duration("1500ms"), std::chrono::seconds(1));
  for (const char* bad : {"", "h", "-1h", "1", "1d", "1h ", "99999999999999999999h"}) {
    EXPECT_FALSE(parse_go_duration(bad)) << bad;
  }
}

class PluginsTest : public ::testing::Test {
 protected:
  PluginsTest() {
    std::ofstream(folder_ / "config.yaml") << kGood;
    auto opened =
        KubeletPlugins::open(folder_ / "config.yaml", folder_.path(), [this] { return now_; });
    EXPECT_TRUE(opened) << opened.error().message();
    plugins_ = *opened;
  }
  // A plugin that notes each question and gives this answer.
  void install(const std::string& answer, const std::string& more = "") {
    const auto path = folder_ / "plugin";
    std::ofstream(path) << "#!/bin/sh\n{ cat; echo; echo \"$@ $PROFILE\"; } >> '"
                        << (folder_ / "asked").string() << "'\n"
                        << more << "\ncat <<'END'\n"
                        << answer << "\nEND\n";
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
  static std::string answer(const std::string& type, const std::string& auth,
                            const std::string& duration = "10m") {
    return R"({"kind": "CredentialProviderResponse",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "cacheKeyType": ")" +
           type + R"(", "cacheDuration": ")" + duration + R"(", "auth": )" + auth + "}";
  }
  std::vector<std::string> find(const std::string& host, const std::string& repository = "team/a") {
    const auto found = plugins_->find({host, repository});
    EXPECT_TRUE(found) << found.error().message();
    std::vector<std::string> passwords;
    for (const auto& one : *found) passwords.push_back(one.password);
    return passwords;
  }
  std::string asked() const {
    std::ifstream file(folder_ / "asked");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::size_t times() const {
    const std::string text = asked();
    return static_cast<std::size_t>(std::ranges::count(text, '\n')) / 2;
  }

  test::TemporaryDirectory folder_;
  KubeletPlugins::Clock::time_point now_ = KubeletPlugins::Clock::now();
  std::shared_ptr<KubeletPlugins> plugins_;
};

TEST_F(PluginsTest, AreAskedOnStandardInputForImagesThatMatch) {
  install(answer("Registry", R"({"*.registry.example": {"username": "u", "password": "wide"},
      "a.registry.example/team": {"username": "u", "password": "narrow"},
      "b.registry.example": {"username": "u", "password": "other"}})"));
  EXPECT_THAT(find("elsewhere.example"), IsEmpty());
  EXPECT_EQ(times(), 0U);
  EXPECT_THAT(find("a.registry.example"), ElementsAre("narrow", "wide"));
  EXPECT_THAT(asked(), HasSubstr(R"("image":"a.registry.example/team/a")"));
  EXPECT_THAT(asked(), HasSubstr(R"("kind":"CredentialProviderRequest")"));
  EXPECT_THAT(asked(), HasSubstr("get --now node"));
}

TEST_F(PluginsTest, AnswersHoldAsLongAndAsFarAsTheySay) {
  const std::string all = R"({"*.registry.example": {"username": "u", "password": "p"}})";
  install(answer("Registry", all));
  find("a.registry.example", "one");
  find("a.registry.example", "two");
  EXPECT_EQ(times(), 1U);
  find("b.registry.example", "one");
  EXPECT_EQ(times(), 2U);
  now_ += std::chrono::minutes(10);
  install(answer("Image", all));
  find("a.registry.example", "one");
  find("a.registry.example", "two");
  find("a.registry.example", "two");
  EXPECT_EQ(times(), 4U);
  now_ += std::chrono::minutes(10);
  install(answer("Global", all, "0s"));
  find("a.registry.example", "one");
  find("a.registry.example", "one");
  EXPECT_EQ(times(), 6U) << "not at all";
  install(answer("Global", all));
  find("a.registry.example", "one");
  find("b.registry.example", "two");
  EXPECT_EQ(times(), 7U);
}

TEST_F(PluginsTest, TheNextPasswordIsTheSameOwners) {
  const auto owner = [&](const std::string& type, const std::string& repository,
                         const std::string& password) {
    now_ += std::chrono::hours(2);
    install(answer(
        type, R"({"*.registry.example": {"username": "AWS", "password": ")" + password + "\"}}"));
    return plugins_->find({"a.registry.example", repository})->front().owner;
  };
  EXPECT_NE(owner("Registry", "one", "monday"), "");
  EXPECT_EQ(owner("Registry", "one", "monday"), owner("Registry", "two", "tuesday"));
  EXPECT_EQ(owner("Image", "one", "monday"), owner("Image", "one", "tuesday"));
  EXPECT_NE(owner("Image", "one", "monday"), owner("Image", "two", "monday"))
      << "each image may have its own user";
}

TEST_F(PluginsTest, FailuresShowNothing) {
  const auto expect = [&](Errc code, const std::string& reason) {
    const auto found = plugins_->find({"a.registry.example", "web"});
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code(), code) << found.error().message();
    EXPECT_THAT(found.error().message(), HasSubstr(reason));
    EXPECT_THAT(found.error().message(), Not(HasSubstr("hunter2")));
  };
  expect(Errc::kNotFound, "plugin");
  install("", "echo hunter2; exit 3");
  expect(Errc::kDenied, "failed with status 3");
  install("hunter2");
  expect(Errc::kInvalid, "the answer of plugin");
  install(answer("Node", R"({"hunter2": {}})"));
  expect(Errc::kInvalid, "cacheKeyType");
  install(answer("Image", R"({"hunter2": {"username": 1}})"));
  expect(Errc::kInvalid, "username");
  install(R"({"kind": "CredentialProviderResponse", "apiVersion": "v0", "cacheKeyType": "Image"})");
  expect(Errc::kInvalid, "apiVersion");
  install(answer("Image", "{}"));
  std::filesystem::permissions(folder_ / "plugin", std::filesystem::perms::all);
  expect(Errc::kDenied, "nobody else can write to");
}

}  // namespace
}  // namespace imsy::snapshotter
