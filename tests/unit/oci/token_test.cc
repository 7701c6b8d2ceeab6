#include "oci/token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "tests/unit/oci/support.h"

namespace imsy::oci {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::FakeRegistry;
using test::FakeRequest;
using test::FakeResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// An authorizer for a fake registry, with a clock that the test turns.
class Token : public ::testing::Test {
 protected:
  void make(const std::string& config, bool push = false) {
    AuthorizerOptions options;
    options.endpoint = *parse_url(server_.endpoint());
    options.repository = "library/web";
    options.credential_name = server_.host();
    options.credentials = more_.empty() ? docker_credentials(dir_.write("config.json", config))
                                        : std::make_shared<CredentialPlaces>(more_);
    options.push = push;
    options.first_retry_delay = milliseconds(1);
    options.now = [this] { return now_; };
    authorizer_ = std::make_shared<Authorizer>(http_, std::move(options));
  }
  std::string with_user() const {
    return "{\"auths\":{\"" + server_.host() + "\":{\"username\":\"joe\",\"password\":\"pw\"}}}";
  }

  Result<std::string> header() {
    return ask([this](Authorizer::Ready ready) { authorizer_->header(std::move(ready)); });
  }
  Result<std::string> challenged(const std::string& challenge, const std::string& used) {
    HttpResponse response;
    response.status = 401;
    response.headers.emplace_back("www-authenticate", challenge);
    return ask([this, response, used](Authorizer::Ready ready) {
      authorizer_->challenged(response, used, std::move(ready));
    });
  }
  std::string bearer(const std::string& scope) const {
    return "Bearer realm=\"" + server_.endpoint() + "/token\",service=\"fake\",scope=\"" + scope +
           "\"";
  }
  std::vector<std::string> scopes_asked_for() const {
    std::vector<std::string> scopes;
    for (const FakeRequest& request : server_.log()) scopes.push_back(request.parameter("scope"));
    return scopes;
  }

  TempDir dir_;
  std::vector<CredentialPlaces::Place> more_;  // instead of the configuration
  FakeRegistry server_;
  HttpClient http_;
  std::chrono::steady_clock::time_point now_{};
  std::shared_ptr<Authorizer> authorizer_;

  Result<std::string> ask(const std::function<void(Authorizer::Ready)>& question) {
    std::promise<Result<std::string>> answer;
    http_.call_after(milliseconds(0), [&] {
      question([&](Result<std::string> value) { answer.set_value(std::move(value)); });
    });
    return answer.get_future().get();
  }
};

TEST_F(Token, NothingIsSentBeforeTheRegistryAsks) {
  make(with_user());
  EXPECT_EQ(*header(), "");
  EXPECT_EQ(authorizer_->identity(), "");
}

TEST_F(Token, IsAskedAnewShortlyBeforeItExpires) {
  server_.set_token_lifetime(100);
  make("{}");
  EXPECT_EQ(*challenged(bearer("repository:library/web:pull"), ""), "Bearer token-1");
  now_ += seconds(74);
  EXPECT_EQ(*header(), "Bearer token-1");
  now_ += seconds(2);
  EXPECT_EQ(*header(), "Bearer token-2");
  server_.set_token_lifetime(100'000'000);
  now_ += seconds(100);
  EXPECT_EQ(*header(), "Bearer token-3");
  now_ += std::chrono::hours(23);
  EXPECT_EQ(*header(), "Bearer token-3");
  now_ += std::chrono::hours(1);  // no token is trusted for longer than a day
  EXPECT_EQ(*header(), "Bearer token-4");
  EXPECT_EQ(authorizer_->identity(), "");
}

TEST_F(Token, OneThatWasReplacedMeanwhileIsNotAskedForAgain) {
  make("{}");
  const std::string challenge = bearer("repository:library/web:pull");
  EXPECT_EQ(*challenged(challenge, ""), "Bearer token-1");
  EXPECT_EQ(*challenged(challenge, "Bearer token-1"), "Bearer token-2");
  EXPECT_EQ(*challenged(challenge, "Bearer token-1"), "Bearer token-2");
  EXPECT_EQ(server_.count("GET", "/token"), 2u);
}

TEST_F(Token, GathersScopes) {
  make("{}", /*push=*/true);
  ASSERT_TRUE(challenged(bearer("repository:library/web:pull"), ""));
  ASSERT_TRUE(challenged(bearer("repository:library/web:delete"), "Bearer token-1"));
  EXPECT_THAT(scopes_asked_for(), ElementsAre("repository:library/web:pull,push",
                                              "repository:library/web:delete,pull,push"));
}

TEST_F(Token, SendsTheCredentialToTheRealm) {
  server_.require_bearer("joe", "pw");
  make(with_user());
  EXPECT_EQ(*challenged(bearer("repository:library/web:pull"), ""), "Bearer token-1");
  EXPECT_EQ(server_.log().at(0).parameter("service"), "fake");
  EXPECT_NE(authorizer_->identity(), "");
}

TEST_F(Token, WrongCredentialIsDenied) {
  server_.require_bearer("joe", "other");
  make(with_user());
  auto value = challenged(bearer("repository:library/web:pull"), "");
  ASSERT_FALSE(value);
  EXPECT_EQ(value.error().code(), Errc::kDenied);
  EXPECT_THAT(value.error().message(), Not(HasSubstr("pw")));
  // A later request tries again: the credential may have been put right.
  server_.require_bearer("joe", "pw");
  EXPECT_EQ(*header(), "Bearer token-1");
}

TEST_F(Token, IdentityTokensGoTheOtherWay) {
  server_.require_bearer("joe", "refresh");
  make("{\"auths\":{\"" + server_.host() + "\":{\"identitytoken\":\"refresh\"}}}");
  EXPECT_EQ(*challenged(bearer("repository:library/web:pull"), ""), "Bearer token-1");
  EXPECT_EQ(server_.log().at(0).method, "POST");
  EXPECT_EQ(server_.log().at(0).header("content-type"), "application/x-www-form-urlencoded");
  EXPECT_NE(authorizer_->identity(), "");
}

TEST_F(Token, BasicIsSentUntilItIsRefused) {
  make(with_user());
  const std::string expected = "Basic am9lOnB3";
  EXPECT_EQ(*challenged("Basic realm=\"x\"", ""), expected);
  EXPECT_EQ(*header(), expected);
  auto again = challenged("Basic realm=\"x\"", expected);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Errc::kDenied);
  // Another one in the file is seen.
  dir_.write("config.json", "{\"auths\":{\"" + server_.host() +
                                "\":{\"username\":\"joe\",\"password\":\"new\"}}}");
  EXPECT_EQ(*challenged("Basic realm=\"x\"", expected), "Basic am9lOm5ldw==");
}

TEST_F(Token, PrefersBearerAndRefusesTheUnknown) {
  make(with_user());
  EXPECT_EQ(*challenged("Basic realm=\"x\", " + bearer("repository:library/web:pull"), ""),
            "Bearer token-1");
  make(with_user());
  for (const char* challenge : {"", "Negotiate", "Bearer", "Bearer service=\"x\""}) {
    auto value = challenged(challenge, "");
    ASSERT_FALSE(value) << challenge;
    EXPECT_EQ(value.error().code(), Errc::kDenied);
  }
}

TEST_F(Token, WithoutACredentialBasicIsDenied) {
  make("{}");
  auto value = challenged("Basic realm=\"x\"", "");
  ASSERT_FALSE(value);
  EXPECT_EQ(value.error().code(), Errc::kDenied);
  EXPECT_THAT(value.error().message(), HasSubstr(server_.host()));
}

TEST_F(Token, UnusableAnswersAreErrors) {
  make("{}");
  const std::string bodies[] = {
      "",
      "<html>",
      "[]",
      "{}",
      "{\"token\":\"\"}",
      "{\"token\":5}",
      "{\"token\":\"a b\"}",
      "{\"token\":\"a\\r\\nX: y\"}",
      "{\"token\":\"" + std::string(40'000, 'a') + "\"}",
      "{\"token\":\"" + std::string(300'000, 'a') + "\"}",
  };
  for (const std::string& body : bodies) {
    server_.fault("GET", "/token", 1,
                  [&](const FakeRequest&, FakeResponse& response) { response.body = body; });
    EXPECT_FALSE(challenged(bearer("repository:library/web:pull"), "")) << body.substr(0, 40);
  }
  server_.fault("GET", "/token", 1, [&](const FakeRequest&, FakeResponse& response) {
    response.body = "{\"access_token\":\"abc\",\"expires_in\":\"soon\"}";
  });
  EXPECT_EQ(*challenged(bearer("repository:library/web:pull"), ""), "Bearer abc");
}

TEST_F(Token, AsksABusyServerAgain) {
  make("{}");
  server_.fault("GET", "/token", 2, [](const FakeRequest&, FakeResponse& response) {
    response.status = 503;
    response.set("Retry-After", "0");
  });
  server_.fault("GET", "/token", 1, [](const FakeRequest&, FakeResponse& response) {
    response.end = FakeResponse::End::kReset;
    response.send_at_most = 0;
  });
  EXPECT_EQ(*challenged(bearer("repository:library/web:pull"), ""), "Bearer token-4");
  server_.fault("GET", "/token", FakeRegistry::kAlways,
                [](const FakeRequest&, FakeResponse& response) { response.status = 503; });
  server_.clear_log();
  auto value = challenged(bearer("repository:library/web:pull"), "Bearer token-4");
  ASSERT_FALSE(value);
  EXPECT_EQ(value.error().code(), Errc::kUnavailable);
  EXPECT_EQ(server_.count("GET", "/token"), 6u);
}

// A place of credentials that a test changes.
class Several final : public Credentials {
 public:
  Result<std::vector<Credential>> find(const CredentialQuery& query) const override {
    EXPECT_EQ(query.repository, "library/web");
    const MutexLock lock(mu_);
    ++asked_;
    if (failure_) return *failure_;
    return all_;
  }
  unsigned asked() const {
    const MutexLock lock(mu_);
    return asked_;
  }
  void fail(const Error& error) {
    const MutexLock lock(mu_);
    failure_ = error;
  }
  void set(std::vector<Credential> all) {
    const MutexLock lock(mu_);
    all_ = std::move(all);
  }

 private:
  mutable Mutex mu_;
  mutable unsigned asked_ IMSY_GUARDED_BY(mu_) = 0;
  std::vector<Credential> all_ IMSY_GUARDED_BY(mu_);
  std::optional<Error> failure_ IMSY_GUARDED_BY(mu_);
};

Credential login(const std::string& user, const std::string& password,
                 const std::string& owner = "") {
  Credential credential;
  credential.username = user;
  credential.password = password;
  credential.owner = owner;
  return credential;
}

class TokenOfSeveral : public Token {
 protected:
  TokenOfSeveral() {
    more_ = {several_, others_};
    make("");
  }
  const std::shared_ptr<Several> several_ = std::make_shared<Several>();
  const std::shared_ptr<Several> others_ = std::make_shared<Several>();
};

TEST_F(TokenOfSeveral, TheNextPlaceIsAskedOnlyWhenTheFirstDoesNotHelp) {
  several_->set({login("joe", "pw")});
  others_->set({login("joe", "new")});
  server_.require_bearer("joe", "pw");
  EXPECT_TRUE(challenged(bearer("repository:library/web:pull"), ""));
  EXPECT_EQ(others_->asked(), 0u) << "it may be away, and is not needed";
  server_.require_bearer("joe", "new");
  EXPECT_TRUE(challenged(bearer("repository:library/web:pull"), "Bearer token-1"));
  EXPECT_EQ(others_->asked(), 1u);
  several_->fail(Error(Errc::kUnavailable, "the program is gone"));
  EXPECT_TRUE(challenged(bearer("repository:library/web:pull"), "Bearer token-2"))
      << "a place that fails keeps nobody from the next";
}

TEST_F(TokenOfSeveral, ForbiddenIsNotAskedForAgainAndAgain) {
  several_->set({login("one", "pw")});
  EXPECT_EQ(*challenged(bearer("repository:library/web:pull"), ""), "Bearer token-1");
  const auto forbidden = [this] {
    return ask([this](Authorizer::Ready ready) {
      ASSERT_TRUE(authorizer_->another_left()) << "nobody asked the other place yet";
      authorizer_->forbidden("Bearer token-1", std::move(ready));
    });
  }();
  ASSERT_FALSE(forbidden);
  EXPECT_EQ(forbidden.error().code(), Errc::kDenied);
  EXPECT_EQ(others_->asked(), 1u);
  EXPECT_EQ(server_.count("GET", "/token"), 1u) << "the same one would be forbidden the same";
}

TEST_F(TokenOfSeveral, TheNextIsTriedWhenTheRealmRefusesOne) {
  several_->set({login("old", "pw"), login("joe", "pw")});
  server_.require_bearer("joe", "pw");
  EXPECT_EQ(*challenged(bearer("repository:library/web:pull"), ""), "Bearer token-1");
  const std::string joe = authorizer_->identity();
  server_.expire_tokens();
  EXPECT_EQ(*challenged(bearer("repository:library/web:pull"), "Bearer token-1"), "Bearer token-2")
      << "a token that is over is no reason to forget whom it was for";
  EXPECT_EQ(authorizer_->identity(), joe);
}

TEST_F(TokenOfSeveral, TheNextIsTriedWhenTheRegistryRefusesATokenOrForbids) {
  more_ = {several_};
  make("");
  several_->set({login("one", "pw"), login("two", "pw")});
  EXPECT_EQ(*challenged(bearer("repository:library/web:pull"), ""), "Bearer token-1");
  const std::string one = authorizer_->identity();
  const auto forbidden = ask([this](Authorizer::Ready ready) {
    ASSERT_TRUE(authorizer_->another_left());
    authorizer_->forbidden("Bearer token-1", std::move(ready));
  });
  EXPECT_EQ(*forbidden, "Bearer token-2");
  EXPECT_NE(authorizer_->identity(), one);
  const auto left = ask([this](const Authorizer::Ready& ready) {
    ready(std::string(authorizer_->another_left() ? "another" : "none"));
  });
  EXPECT_EQ(*left, "none");
}

TEST_F(TokenOfSeveral, WrongOnesKeepNobodyFromWhatIsPublic) {
  several_->set({login("one", "wrong"), login("two", "wrong")});
  server_.answer_at("/token", [](const FakeRequest& request) {
    FakeResponse response;
    if (!request.header("authorization").empty()) response.status = 401;
    response.body = R"({"token": "anonymous"})";
    return response;
  });
  EXPECT_EQ(*challenged(bearer("repository:library/web:pull"), ""), "Bearer anonymous");
  EXPECT_NE(authorizer_->identity(), "") << "what was shown may have counted";
}

TEST_F(TokenOfSeveral, PlacesThatFailKeepNobodyFromWhatIsPublic) {
  several_->fail(Error(Errc::kUnavailable, "the cluster is away"));
  server_.require_anonymous_bearer();
  EXPECT_TRUE(challenged(bearer("repository:library/web:pull"), ""));
  EXPECT_EQ(authorizer_->identity(), "");
  // What is not public has to wait for them.
  make("");
  server_.require_bearer("joe", "pw");
  const auto refused = challenged(bearer("repository:library/web:pull"), "");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kUnavailable) << refused.error().message();
  EXPECT_THAT(refused.error().message(), HasSubstr("the cluster is away"));
}

TEST_F(TokenOfSeveral, ManyWrongOnesComeToAnEnd) {
  std::vector<Credential> many;
  for (int i = 0; i < 200; ++i) many.push_back(login("user" + std::to_string(i), "wrong"));
  several_->set(many);
  server_.require_bearer("joe", "pw");
  for (std::size_t times = 1; times <= 6; ++times) {
    EXPECT_FALSE(challenged(bearer("repository:library/web:pull"), ""));
    EXPECT_LE(server_.count("GET", "/token"), times * 17);
  }
}

TEST_F(TokenOfSeveral, BasicIsTriedOnceWithEach) {
  several_->set({login("one", "pw"), login("two", "pw")});
  const std::string basic = "Basic realm=\"x\"";
  const auto first = challenged(basic, "");
  const auto second = challenged(basic, *first);
  EXPECT_NE(*first, *second);
  const auto third = challenged(basic, *second);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code(), Errc::kDenied);
  EXPECT_THAT(third.error().message(), HasSubstr("refuses the credential"));
  EXPECT_EQ(*header(), *first) << "it may be good by the next time";
}

TEST_F(TokenOfSeveral, ATokenForTheRegistryIsShownAsItIs) {
  Credential token;
  token.registry_token = "ready-made";
  several_->set({token});
  EXPECT_EQ(*challenged(bearer("repository:library/web:pull"), ""), "Bearer ready-made");
  EXPECT_NE(authorizer_->identity(), "");
  EXPECT_EQ(server_.count("", "/token"), 0u);
  EXPECT_FALSE(challenged(bearer("repository:library/web:pull"), "Bearer ready-made"));
  token.registry_token = "two\r\nlines";
  several_->set({token});
  server_.require_bearer("joe", "pw");
  const auto refused = header();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), Not(HasSubstr("lines")));
  // It hides nobody behind it.
  several_->set({token, login("joe", "pw")});
  EXPECT_TRUE(header());
}

TEST_F(TokenOfSeveral, OneOwnerStaysOneWhateverThePassword) {
  const auto identity_of = [this](const Credential& credential) {
    several_->set({credential});
    make("");
    EXPECT_TRUE(challenged("Basic realm=\"x\"", ""));
    return authorizer_->identity();
  };
  const std::string first = identity_of(login("AWS", "monday", "plugin"));
  EXPECT_EQ(identity_of(login("AWS", "tuesday", "plugin")), first);
  EXPECT_NE(identity_of(login("other", "tuesday", "plugin")), first);
  EXPECT_NE(identity_of(login("AWS", "tuesday", "another plugin")), first);
  const std::string unknown = identity_of(login("AWS", "monday"));
  EXPECT_NE(unknown, first);
  EXPECT_NE(identity_of(login("AWS", "tuesday")), unknown)
      << "it may be somebody else's, who has the same name there";
}

}  // namespace
}  // namespace imsy::oci
