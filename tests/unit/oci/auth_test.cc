#include "oci/auth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "common/io.h"
#include "oci/base64.h"
#include "oci/helper_program.h"
#include "tests/unit/oci/support.h"

namespace imsy::oci {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string encoded(std::string_view text) {
  return base64_encode(as_bytes(text));
}

Result<std::optional<Credential>> find_in(const Credentials& place, const std::string& host) {
  IMSY_TRY_ASSIGN(const auto all, place.find({host, "library/web"}));
  return all.empty() ? std::nullopt : std::optional(all.front());
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
  auto found = find_in(DockerConfig(dir.path() / "config.json"), "host");
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
    auto found = find_in(config, host);
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
    auto found = find_in(DockerConfig(path), "host");
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
  EXPECT_EQ((*find_in(config, "h"))->password, "old");
  dir.write("config.json", R"({"auths":{"h":{"auth":")" + encoded("u:new") + R"("}}})");
  EXPECT_EQ((*find_in(config, "h"))->password, "new");
}

class CredentialHelper : public ::testing::Test {
 protected:
  // A program docker-credential-<name> of this text.
  void install(const std::string& name, const std::string& script) {
    const auto path = dir_.write("docker-credential-" + name, "#!/bin/sh\n" + script);
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
  Result<std::optional<Credential>> find(const std::string& json, const std::string& host) {
    return find_in(DockerConfig(dir_.write("config.json", json)), host);
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

TEST(HelperProgram, IsKilledWithItsGroupWhenItsTimeIsOver) {
  TempDir dir;
  HelperProgram helper;
  helper.program = "/bin/sh";
  // The grandchild holds the pipe open; it could not be waited for if it lived on.
  helper.arguments = {"-c", "sleep 600 & echo $! > \"$FILE\"; echo hunter2; wait"};
  helper.environment = {{"FILE", (dir.path() / "pid").string()}};
  helper.time = std::chrono::milliseconds(300);
  const auto answer = run_helper(helper);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code(), Errc::kTimeout);
  EXPECT_THAT(answer.error().message(), Not(HasSubstr("hunter2")));
  const auto pid = read_file(dir.path() / "pid", 100);
  ASSERT_TRUE(pid);
  // Dead, and perhaps not reaped by who adopted it.
  const std::string status =
      "/proc/" + std::to_string(std::stoi(std::string(as_text(*pid)))) + "/stat";
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  for (;;) {
    const auto stat = read_file(status, 4096);
    if (!stat || as_text(*stat).find(") Z ") != std::string_view::npos) break;
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << as_text(*stat);
  }
}

TEST(HelperProgram, GetsItsEnvironmentAndCanBeInterrupted) {
  sigset_t term;
  sigset_t before;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &term, &before);
  const ScopedVariable ours("IMSY_TEST_VARIABLE", "ours");
  HelperProgram helper;
  helper.program = "/bin/sh";
  helper.arguments = {"-c",
                      "read -r x; echo \"$x $IMSY_TEST_VARIABLE\"; kill -TERM $$; echo blocked"};
  helper.environment = {{"IMSY_TEST_VARIABLE", "theirs"}};
  helper.input = "question\n";
  const auto answer = run_helper(helper);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ(answer->output, "question theirs\n");
  EXPECT_EQ(answer->status, -1);
}

// A place of credentials that a test fills.
class Fixed final : public Credentials {
 public:
  explicit Fixed(Result<std::vector<Credential>> answer) : answer_(std::move(answer)) {}
  Result<std::vector<Credential>> find(const CredentialQuery&) const override { return answer_; }

 private:
  const Result<std::vector<Credential>> answer_;
};

Credential user(const std::string& name) {
  Credential credential;
  credential.username = name;
  return credential;
}

TEST(CredentialPlaces, AnswerEachForItself) {
  using List = std::vector<Credential>;
  const auto place = [](Result<List> answer) { return std::make_shared<Fixed>(std::move(answer)); };
  const Error broken(Errc::kUnavailable, "it is away");
  const CredentialPlaces places({place(List{}), place(broken), place(List{user("a"), user("b")})});
  ASSERT_EQ(places.size(), 3u);
  EXPECT_EQ(*places.find(0, {"host", "web"}), List{});
  const auto failed = places.find(1, {"host", "web"});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), Errc::kUnavailable);
  EXPECT_EQ(*places.find(2, {"host", "web"}), (List{user("a"), user("b")}));
}

}  // namespace
}  // namespace imsy::oci
