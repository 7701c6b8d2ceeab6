#include "oci/auth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/io.h"
#include "oci/base64.h"
#include "tests/unit/oci/support.h"

namespace imsy::oci {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string encoded(std::string_view text) {
  return base64_encode(as_bytes(text));
}

// Sets an environment variable for the time of a test.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  ~ScopedVariable() {
    if (old_) {
      ::setenv(name_, old_->c_str(), 1);
    } else {
      ::unsetenv(name_);
    }
  }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> old_;
};

TEST(Challenges, ReadsWhatRegistriesSend) {
  const auto list = parse_challenges(
      "Bearer realm=\"https://auth.example/token\",service=\"a "
      "b\",scope=\"repository:x:pull,push\"");
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].scheme, "bearer");
  EXPECT_EQ(list[0].parameters.at("realm"), "https://auth.example/token");
  EXPECT_EQ(list[0].parameters.at("service"), "a b");
  EXPECT_EQ(list[0].parameters.at("scope"), "repository:x:pull,push");
}

TEST(Challenges, ReadsSeveralInOneHeader) {
  const auto list = parse_challenges(
      "Negotiate, NTLM TlRMTVNTUAAC==, Digest a=b , c = \"d\\\"e\", BASIC Realm=x");
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[0].scheme, "negotiate");
  EXPECT_EQ(list[1].scheme, "ntlm");
  EXPECT_EQ(list[2].scheme, "digest");
  EXPECT_EQ(list[2].parameters.at("a"), "b");
  EXPECT_EQ(list[2].parameters.at("c"), "d\"e");
  EXPECT_EQ(list[3].scheme, "basic");
  EXPECT_EQ(list[3].parameters.at("realm"), "x");
}

TEST(Challenges, KeepsWhatStandsBeforeNonsense) {
  EXPECT_TRUE(parse_challenges("").empty());
  EXPECT_TRUE(parse_challenges(" , ,").empty());
  EXPECT_TRUE(parse_challenges("\"quoted\"").empty());
  EXPECT_TRUE(parse_challenges("=x").empty());
  const auto cut = parse_challenges("Bearer realm=\"https://a\",service=\"unfinished");
  ASSERT_EQ(cut.size(), 1u);
  EXPECT_EQ(cut[0].parameters.size(), 1u);
  EXPECT_EQ(parse_challenges("Basic realm=\"x\" ; junk").size(), 1u);
}

TEST(DockerConfig, AMissingFileMeansNoCredentials) {
  TempDir dir;
  auto found = DockerConfig(dir.path() / "config.json").find("host");
  ASSERT_TRUE(found);
  EXPECT_FALSE(*found);
}

TEST(DockerConfig, FindsEntriesUnderAllTheirNames) {
  TempDir dir;
  const auto path = dir.write("config.json", R"({"auths": {
      "127.0.0.1:5000": {"auth": ")" + encoded("one:a:b") +
                                                 R"("},
      "https://two.example": {"username": "two", "password": "p2"},
      "https://three.example/v2/": {"auth": ")" + encoded("three:p3") +
                                                 R"("},
      "four.example/team": {"auth": ")" + encoded("four:p4") +
                                                 R"("},
      "five.example": {},
      "six.example": {"identitytoken": "refresh", "auth": ")" +
                                                 encoded("<token>:") + R"("},
      "https://index.docker.io/v1/": {"auth": ")" +
                                                 encoded("hub:p7") + R"("}},
      "detachKeys": "ctrl-x", "plugins": {"a": {"b": "c"}}})");
  const DockerConfig config(path);
  const auto find = [&](const std::string& host) {
    auto found = config.find(host);
    EXPECT_TRUE(found) << host;
    return found ? *found : std::optional<Credential>();
  };
  EXPECT_EQ(find("127.0.0.1:5000")->username, "one");
  EXPECT_EQ(find("127.0.0.1:5000")->password, "a:b");
  EXPECT_FALSE(find("127.0.0.1"));
  EXPECT_FALSE(find("127.0.0.1:5001"));
  EXPECT_EQ(find("two.example")->password, "p2");
  EXPECT_EQ(find("three.example")->username, "three");
  EXPECT_FALSE(find("four.example"));  // is for a part of that registry only
  EXPECT_FALSE(find("five.example"));
  EXPECT_EQ(find("six.example")->identity_token, "refresh");
  for (const char* hub : {"docker.io", "index.docker.io", "registry-1.docker.io"}) {
    EXPECT_EQ(find(hub)->username, "hub") << hub;
  }
  EXPECT_FALSE(find("nobody.example"));
}

TEST(DockerConfig, MalformedFilesAreErrorsThatShowNothing) {
  TempDir dir;
  for (const std::string& text :
       {std::string("{"), std::string("[]"),
        std::string(R"({"auths": {"host": {"auth": "c2VjcmV0"}}})"),  // "secret", no colon
        std::string(R"({"auths": {"host": {"auth": "secret!"}}})"),
        std::string(R"({"auths": {"host": {}}, "auths": {}})")}) {
    const auto path = dir.write("config.json", text);
    auto found = DockerConfig(path).find("host");
    ASSERT_FALSE(found) << text;
    EXPECT_EQ(found.error().code(), Errc::kInvalid);
    EXPECT_THAT(found.error().message(), HasSubstr(path.string()));
    EXPECT_THAT(found.error().message(), Not(HasSubstr("secret")));
    EXPECT_THAT(found.error().message(), Not(HasSubstr("c2VjcmV0")));
  }
}

TEST(DockerConfig, SeesARotatedCredential) {
  TempDir dir;
  const auto path =
      dir.write("config.json", R"({"auths":{"h":{"auth":")" + encoded("u:old") + R"("}}})");
  const DockerConfig config(path);
  EXPECT_EQ((*config.find("h"))->password, "old");
  dir.write("config.json", R"({"auths":{"h":{"auth":")" + encoded("u:new") + R"("}}})");
  EXPECT_EQ((*config.find("h"))->password, "new");
}

class CredentialHelper : public ::testing::Test {
 protected:
  // A program docker-credential-<name> of this text.
  void install(const std::string& name, const std::string& script) {
    const auto path = dir_.write("docker-credential-" + name, "#!/bin/sh\n" + script);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
  Result<std::optional<Credential>> find(const std::string& json, const std::string& host) {
    return DockerConfig(dir_.write("config.json", json)).find(host);
  }

  TempDir dir_;
  const ScopedVariable path_{"PATH", dir_.path().string() + ":" + std::getenv("PATH")};
};

TEST_F(CredentialHelper, IsAskedForTheHost) {
  install("test",
          "test \"$1\" = get || exit 3\nread -r server\n"
          "echo \"{\\\"ServerURL\\\":\\\"$server\\\",\\\"Username\\\":\\\"user of $server\\\","
          "\\\"Secret\\\":\\\"pw\\\"}\"\n");
  auto found = find(R"({"credHelpers":{"host:1":"test"}})", "host:1");
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ((*found)->username, "user of host:1");
  EXPECT_EQ((*found)->password, "pw");
  found = find(R"({"credsStore":"test"})", "docker.io");
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ((*found)->username, "user of https://index.docker.io/v1/");
  found = find(R"({"credHelpers":{"other":"test"}})", "host:1");
  ASSERT_TRUE(found);
  EXPECT_FALSE(*found);
}

TEST_F(CredentialHelper, MayGiveAnIdentityToken) {
  install("test", R"(echo '{"Username":"<token>","Secret":"refresh"}')");
  auto found = find(R"({"credsStore":"test"})", "host");
  ASSERT_TRUE(found);
  EXPECT_EQ((*found)->identity_token, "refresh");
  EXPECT_TRUE((*found)->username.empty());
}

TEST_F(CredentialHelper, WithoutTheCredentialLeavesItToTheFile) {
  install("test", "echo 'credentials not found in native keychain'; exit 1");
  auto found = find(
      R"({"credsStore":"test","auths":{"host":{"auth":")" + encoded("a:b") + R"("}}})", "host");
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ((*found)->username, "a");
  found = find(R"({"credHelpers":{"host":"test"}})", "host");
  ASSERT_TRUE(found);
  EXPECT_FALSE(*found);
}

TEST_F(CredentialHelper, ThatFailsIsAnErrorThatShowsNothing) {
  const auto expect_error = [&](const std::string& helper, Errc code) {
    auto found = find("{\"credsStore\":\"" + helper + "\"}", "host");
    ASSERT_FALSE(found) << helper;
    EXPECT_EQ(found.error().code(), code) << found.error().message();
    EXPECT_THAT(found.error().message(), Not(HasSubstr("hunter2")));
  };
  install("fails", "echo hunter2; echo hunter2 >&2; exit 1");
  install("junk", "echo hunter2");
  install("list", "echo '[\"hunter2\"]'");
  install("endless", "while echo hunter2hunter2hunter2hunter2; do :; done");
  expect_error("fails", Errc::kDenied);
  expect_error("junk", Errc::kInvalid);
  expect_error("list", Errc::kInvalid);
  expect_error("endless", Errc::kInvalid);
  expect_error("absent", Errc::kNotFound);
  expect_error("../evil", Errc::kInvalid);
  expect_error("a b", Errc::kInvalid);
}

TEST_F(CredentialHelper, InheritsNoDescriptors) {
  const UniqueFd leaked(::dup(1));  // not close-on-exec
  install("test", "echo \"{\\\"Username\\\":\\\"$(ls /proc/self/fd | tr '\\n' ' ')\\\"}\"");
  auto found = find(R"({"credsStore":"test"})", "host");
  ASSERT_TRUE(found) << found.error().message();
  // 3 is the directory that ls itself has open.
  EXPECT_EQ((*found)->username, "0 1 2 3 ");
}

}  // namespace
}  // namespace imsy::oci
