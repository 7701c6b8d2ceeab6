#include "snapshotter/credentials/kubernetes_secrets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>

#include "common/io.h"
#include "oci/base64.h"
#include "oci/descriptor.h"
#include "tests/support/fake_registry.h"
#include "tests/support/tls_identity.h"
#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::snapshotter {
namespace {

using test::FakeRegistry;
using test::FakeRequest;
using test::FakeResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string base64_of(std::string_view text) {
  return oci::base64_encode(as_bytes(text));
}

std::string text_of_file(const std::filesystem::path& path) {
  const auto bytes = read_file(path, 1 << 20);
  return bytes ? std::string(as_text(*bytes)) : std::string();
}

// A secret that has one login for one pattern.
oci::Json secret(const std::string& pattern, const std::string& password,
                 const std::string& name_space = "default") {
  const oci::Json login = {{"username", "user"}, {"password", password}};
  return {{"type", "kubernetes.io/dockerconfigjson"},
          {"metadata", {{"name", "secret"}, {"namespace", name_space}}},
          {"data",
           {{".dockerconfigjson", base64_of(oci::Json{{"auths", {{pattern, login}}}}.dump())}}}};
}

// An API server with a certificate that only the configuration makes trusted.
class SecretsTest : public ::testing::Test {
 protected:
  static test::FakeRegistryOptions server_options(const std::string& client_certificate) {
    test::FakeRegistryOptions options;
    options.tls = true;
    options.client_certificate = client_certificate;
    return options;
  }
  SecretsTest() {
    write_config();
    server_.answer_at("/api/v1/secrets", [this](const FakeRequest& request) {
      ++asked_;
      FakeResponse response;
      if (request.header("authorization") != "Bearer " + token_) {
        response.status = 401;
        return response;
      }
      EXPECT_EQ(request.parameter("fieldSelector"), "type=kubernetes.io/dockerconfigjson");
      response.status = status_;
      const std::string from = request.parameter("continue");
      const std::size_t page = from.empty() ? 0 : std::stoul(from);
      oci::Json metadata = oci::Json::object();
      if (endless_ || page + 1 < pages_.size()) metadata["continue"] = std::to_string(page + 1);
      response.body = oci::Json{{"kind", "SecretList"},
                                {"metadata", metadata},
                                {"items", pages_[endless_ ? 0 : page]}}
                          .dump();
      return response;
    });
  }
  void write_config(const std::string& user = "tokenFile: token") {
    std::ofstream(folder_ / "token") << token_ << "\n";
    std::ofstream(folder_ / "config")
        << "apiVersion: v1\nkind: Config\ncurrent-context: node\n"
        << "clusters:\n- name: c\n  cluster:\n    server: " << server_.endpoint()
        << "/\n    certificate-authority-data: " << base64_of(text_of_file(server_.ca_file()))
        << "\nusers:\n- name: other\n  user: {exec: {}}\n- name: u\n"
        << "  user:\n    " << user
        << "\ncontexts:\n- name: node\n  context: {cluster: c, "
           "user: u}\n";
  }
  std::shared_ptr<KubernetesSecrets> open() {
    auto opened = KubernetesSecrets::open(folder_ / "config", [this] { return now_; });
    EXPECT_TRUE(opened) << opened.error().message();
    return opened ? *opened : nullptr;
  }
  std::vector<std::string> find(const KubernetesSecrets& secrets, const std::string& repository) {
    const auto found = secrets.find({"registry.example", repository});
    EXPECT_TRUE(found) << found.error().message();
    std::vector<std::string> passwords;
    if (!found) return passwords;
    for (const auto& one : *found) passwords.push_back(one.password);
    return passwords;
  }

  test::TemporaryDirectory folder_;
  FakeRegistry server_{server_options("")};
  std::string token_ = "node-token";
  std::atomic<int> asked_ = 0;
  std::atomic<int> status_ = 200;
  std::atomic<bool> endless_ = false;
  std::vector<oci::Json> pages_ = {oci::Json::array()};
  KubernetesSecrets::Clock::time_point now_ = KubernetesSecrets::Clock::now();
};

TEST_F(SecretsTest, AreListedPageByPageAndMatched) {
  oci::Json bad = secret("registry.example", "bad");
  bad["data"][".dockerconfigjson"] = "not base64";
  oci::Json other = secret("registry.example", "other type");
  other["type"] = "Opaque";
  pages_ = {oci::Json::array({secret("registry.example", "wide"), bad, other, "nonsense"}),
            oci::Json::array({secret("https://registry.example/v1/", "wide"),
                              secret("registry.example/team", "narrow"),
                              secret("elsewhere.example", "no")})};
  const auto secrets = open();
  EXPECT_EQ(asked_, 0) << "not before a login is needed";
  EXPECT_THAT(find(*secrets, "team/web"), ElementsAre("narrow", "wide")) << "each once";
  EXPECT_EQ(asked_, 2);
  EXPECT_THAT(find(*secrets, "web"), ElementsAre("wide"));
  EXPECT_EQ(asked_, 2);
}

TEST_F(SecretsTest, ANamespaceFullOfWrongOnesHidesNoOther) {
  pages_ = {oci::Json::array()};
  for (int i = 0; i < 100; ++i) {
    pages_[0].push_back(
        secret("registry.example/team/web", "wrong" + std::to_string(i), "hostile"));
  }
  pages_[0].push_back(secret("registry.example/team", "narrow", "shop"));
  pages_[0].push_back(secret("registry.example", "wide", "shop"));
  const auto found = find(*open(), "team/web");
  EXPECT_LT(found.size(), 100u);
  ASSERT_GE(found.size(), 4u);
  EXPECT_THAT(std::vector(found.begin(), found.begin() + 4),
              ElementsAre("wrong0", "narrow", "wrong1", "wide"));
}

TEST_F(SecretsTest, AreListedAgainAfterAMinuteAndKeptMeanwhile) {
  pages_ = {oci::Json::array({secret("registry.example", "old")})};
  const auto secrets = open();
  EXPECT_THAT(find(*secrets, "web"), ElementsAre("old"));
  pages_ = {oci::Json::array({secret("registry.example", "new")})};
  now_ += std::chrono::seconds(59);
  EXPECT_THAT(find(*secrets, "web"), ElementsAre("old"));
  now_ += std::chrono::seconds(1);
  EXPECT_THAT(find(*secrets, "web"), ElementsAre("new"));
  // The token is renewed, and read anew.
  token_ = "second-token";
  now_ += std::chrono::minutes(1);
  EXPECT_THAT(find(*secrets, "web"), ElementsAre("new")) << "what is known holds";
  const auto unknown = secrets->find({"elsewhere.example", "web"});
  ASSERT_FALSE(unknown) << "there might be one";
  EXPECT_EQ(unknown.error().code(), Errc::kDenied);
  EXPECT_THAT(unknown.error().message(), Not(HasSubstr("token")));
  EXPECT_EQ(asked_, 3) << "a failure is not tried at once again either";
  write_config();
  pages_ = {oci::Json::array()};
  now_ += std::chrono::minutes(1);
  EXPECT_THAT(find(*secrets, "web"), IsEmpty());
}

TEST_F(SecretsTest, FailuresOfTheServerAreBounded) {
  const auto expect = [&](Errc code) {
    const auto found = open()->find({"registry.example", "web"});
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code(), code) << found.error().message();
  };
  status_ = 500;
  expect(Errc::kUnavailable);
  status_ = 403;
  expect(Errc::kDenied);
  status_ = 200;
  endless_ = true;
  pages_ = {oci::Json::array()};
  for (int i = 0; i < 100; ++i) {
    pages_[0].push_back(secret("registry" + std::to_string(i) + ".example", "pw"));
  }
  expect(Errc::kInvalid);
  EXPECT_LE(asked_, 2 + 201) << "20,000 logins";
}

TEST_F(SecretsTest, AServerThatIsNotTheConfigurationsIsNotBelieved) {
  FakeRegistry impostor(server_options(""));
  write_config();
  std::string config = text_of_file(folder_ / "config");
  const std::size_t at = config.find(server_.endpoint());
  config.replace(at, server_.endpoint().size(), impostor.endpoint());
  std::ofstream(folder_ / "config") << config;
  const auto found = open()->find({"registry.example", "web"});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), Errc::kDenied) << found.error().message();
  EXPECT_TRUE(impostor.log().empty());
}

TEST(KubernetesLogin, ShowsAClientCertificate) {
  const test::TlsIdentity node = test::make_tls_identity("DNS:node.example", false);
  test::FakeRegistryOptions options;
  options.tls = true;
  options.client_certificate = node.certificate_pem;
  FakeRegistry server(options);
  server.answer_at("/api/v1/secrets", [](const FakeRequest&) {
    FakeResponse response;
    response.body =
        oci::Json{{"items", oci::Json::array({secret("registry.example", "pw")})}}.dump();
    return response;
  });
  const test::TemporaryDirectory folder;
  std::ofstream(folder / "ca.crt") << text_of_file(server.ca_file());
  std::ofstream(folder / "node.pem") << node.certificate_pem << node.key_pem;
  std::ofstream(folder / "config")
      << R"({"current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "c",
          "user": "u"}}], "clusters": [{"name": "c", "cluster": {"server": ")"
      << server.endpoint() << R"(", "certificate-authority": "ca.crt"}}],
          "users": [{"name": "u", "user": {"client-certificate": "node.pem",
          "client-key": "node.pem"}}]})";
  const auto secrets = KubernetesSecrets::open(folder / "config");
  ASSERT_TRUE(secrets) << secrets.error().message();
  const auto found = (*secrets)->find({"registry.example", "web"});
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(found->size(), 1U);
}

constexpr const char* kMinimal = R"(
current-context: x
contexts: [{name: x, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://api.example:6443"}}]
users: [{name: u, user: {token: hunter2}}]
)";

TEST(Kubeconfig, AMistakeIsNamedAndNothingShown) {
  ASSERT_TRUE(parse_kubeconfig(kMinimal, "config"));
  EXPECT_EQ(parse_kubeconfig(kMinimal, "config")->token.value, "hunter2");
  const auto reason = [](const std::string& from, const std::string& to) {
    std::string text = kMinimal;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    const auto parsed = parse_kubeconfig(text.replace(at, from.size(), to), "config");
    EXPECT_FALSE(parsed) << to;
    const std::string message = parsed ? "" : parsed.error().message();
    EXPECT_THAT(message, Not(HasSubstr("hunter2")));
    return message;
  };
  EXPECT_THAT(reason("current-context: x", "current-context: y"), HasSubstr("contexts"));
  EXPECT_THAT(reason("https://", "http://"), HasSubstr("cluster.server"));
  EXPECT_THAT(reason("https://", "https://a:hunter2@"), HasSubstr("cluster.server"));
  EXPECT_THAT(reason("6443\"", "6443\", insecure-skip-tls-verify: true"),
              HasSubstr("insecure-skip-tls-verify"));
  EXPECT_THAT(reason("6443\"", "6443\", certificate-authority-data: hunter2!"),
              HasSubstr("certificate-authority-data"));
  EXPECT_THAT(reason("token: hunter2", "exec: {command: hunter2}"), HasSubstr("user.exec"));
  EXPECT_THAT(reason("token: hunter2", "username: u, password: hunter2"), HasSubstr("username"));
  EXPECT_THAT(reason("token: hunter2", "token: [hunter2]"), HasSubstr("user.token"));
}

}  // namespace
}  // namespace imsy::snapshotter
