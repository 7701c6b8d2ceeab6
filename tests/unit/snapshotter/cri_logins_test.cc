#include "snapshotter/credentials/cri_logins.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/base64.h"
#include "proto/cri/images.pb.h"

namespace imsy::snapshotter {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

runtime::v1::PullImageRequest pull_of(const std::string& image, const std::string& user = "",
                                      const std::string& password = "") {
  runtime::v1::PullImageRequest request;
  request.mutable_image()->set_image(image);
  if (!user.empty()) {
    request.mutable_auth()->set_username(user);
    request.mutable_auth()->set_password(password);
  }
  return request;
}

std::string response_of(const std::string& id) {
  runtime::v1::PullImageResponse response;
  response.set_image_ref(id);
  return response.SerializeAsString();
}

class CriLoginsTest : public ::testing::Test {
 protected:
  CriLogins::Pull begin(const runtime::v1::PullImageRequest& request) {
    auto parsed = parse_pull_request(request.SerializeAsString());
    EXPECT_TRUE(parsed) << parsed.error().message();
    return logins_.pull_began(*parsed);
  }
  // A pull that succeeds.
  void pull(const runtime::v1::PullImageRequest& request, const std::string& id = "sha256:id") {
    const auto pull = begin(request);
    logins_.pull_ended(pull, response_of(id));
  }
  void remove(const std::string& image) {
    runtime::v1::RemoveImageRequest request;
    request.mutable_image()->set_image(image);
    logins_.image_removed(request.SerializeAsString());
  }
  // The passwords that are found, in order.
  std::vector<std::string> find(const std::string& host, const std::string& repository) {
    std::vector<std::string> passwords;
    const auto found = logins_.find({host, repository});
    for (const auto& one : *found) passwords.push_back(one.password);
    return passwords;
  }
  using List = std::vector<std::string>;

  CriLogins logins_;
};

TEST(PullRequest, ReadsLoginsAsContainerdDoes) {
  const auto login = [](const std::function<void(runtime::v1::AuthConfig&)>& set,
                        const std::string& image = "registry.example:5000/team/web:1") {
    runtime::v1::PullImageRequest request = pull_of(image);
    set(*request.mutable_auth());
    const auto parsed = parse_pull_request(request.SerializeAsString());
    EXPECT_TRUE(parsed) << parsed.error().message();
    return parsed ? parsed->login : std::nullopt;
  };
  const auto all = [](runtime::v1::AuthConfig& auth) {
    auth.set_username("user");
    auth.set_password("pw");
    auth.set_identity_token("identity");
    auth.set_auth("bm9ib2R5OjE=");
    auth.set_registry_token("token");
  };
  EXPECT_EQ(login(all)->username, "user");
  EXPECT_EQ(login(all)->password, "pw");
  EXPECT_EQ(login(all)->identity_token, "");
  EXPECT_EQ(login([](auto& auth) {
              auth.set_identity_token("identity");
              auth.set_auth("bm9ib2R5OjE=");
            })->identity_token,
            "identity");
  EXPECT_EQ(login([](auto& auth) {
              auth.set_auth(oci::base64_encode(as_bytes("us:p:w")));
              auth.set_registry_token("token");
            })->password,
            "p:w");
  EXPECT_EQ(login([](auto& auth) { auth.set_registry_token("token"); })->registry_token, "token");
  EXPECT_FALSE(login([](auto&) {}));
  const auto at = [&](const std::string& address, const std::string& image) {
    return login(
               [&](auto& auth) {
                 all(auth);
                 auth.set_server_address(address);
               },
               image)
        .has_value();
  };
  const std::string web = "registry.example:5000/team/web";
  EXPECT_TRUE(at("registry.example:5000", web));
  EXPECT_TRUE(at("https://registry.example:5000/v1/", web));
  EXPECT_FALSE(at("registry.example", web)) << "another port is another host";
  EXPECT_FALSE(at("https://evil.example", web));
  EXPECT_FALSE(at("https://evil.example/registry.example:5000", web));
  EXPECT_TRUE(at("https://index.docker.io/v1/", "busybox"));
}

TEST(PullRequest, NormalisesTheReference) {
  const auto parsed = parse_pull_request(pull_of("busybox").SerializeAsString());
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->place.host, "docker.io");
  EXPECT_EQ(parsed->place.repository, "library/busybox");
  EXPECT_EQ(parsed->image, "docker.io/library/busybox:latest");
}

TEST(PullRequest, RefusesWhatIsNoneAndShowsNothing) {
  runtime::v1::PullImageRequest bad = pull_of("web");
  bad.mutable_auth()->set_auth("aHVudGVyMg==");  // no colon
  runtime::v1::PullImageRequest large = pull_of("web", "user");
  large.mutable_auth()->set_password(std::string(CriLogins::kSecretMax, 'x'));
  for (const std::string& bytes :
       {std::string("\xff\xff\xff"), std::string(), pull_of("Not A Reference").SerializeAsString(),
        bad.SerializeAsString(), large.SerializeAsString()}) {
    const auto parsed = parse_pull_request(bytes);
    ASSERT_FALSE(parsed);
    EXPECT_EQ(parsed.error().code(), Errc::kInvalid);
    EXPECT_THAT(parsed.error().message(), Not(HasSubstr("hunter2")));
    EXPECT_THAT(parsed.error().message(), Not(HasSubstr("aHVudGVyMg")));
    EXPECT_LE(parsed.error().message().size(), 1000U);
  }
}

TEST_F(CriLoginsTest, IsFoundDuringThePullAndAfterwards) {
  EXPECT_EQ(find("registry.example", "web"), List{});
  const auto pull = begin(pull_of("registry.example/web:1", "user", "one"));
  EXPECT_EQ(find("registry.example", "web"), List{"one"}) << "the layers are asked for meanwhile";
  logins_.pull_ended(pull, response_of("sha256:id"));
  EXPECT_EQ(find("registry.example", "web"), List{"one"});
  EXPECT_EQ(find("registry.example", "web2"), List{});
  EXPECT_EQ(find("registry.example", "we"), List{});
  EXPECT_EQ(find("registry.example:443", "web"), List{});
}

TEST_F(CriLoginsTest, ALaterPullRenewsIt) {
  pull(pull_of("registry.example/web:1", "user", "one"));
  const auto second = begin(pull_of("registry.example/web:2", "user", "two"));
  EXPECT_EQ(find("registry.example", "web"), (List{"two", "one"}));
  logins_.pull_ended(second, response_of("sha256:other"));
  EXPECT_EQ(find("registry.example", "web"), List{"two"});
}

TEST_F(CriLoginsTest, APullThatFailsReplacesNothing) {
  pull(pull_of("registry.example/web:1", "user", "good"));
  const auto wrong = begin(pull_of("registry.example/web:1", "intruder", "wrong"));
  logins_.pull_ended(wrong, std::nullopt);
  EXPECT_EQ(find("registry.example", "web"), List{"good"});
  const auto none = begin(pull_of("registry.example/web:1"));
  logins_.pull_ended(none, std::nullopt);
  EXPECT_EQ(find("registry.example", "web"), List{"good"});
  pull(pull_of("registry.example/web:1"));
  EXPECT_EQ(find("registry.example", "web"), List{}) << "none is needed any more";
}

TEST_F(CriLoginsTest, IsForgottenWithTheLastImageOfItsRepository) {
  pull(pull_of("registry.example/web:1", "user", "pw"), "sha256:one");
  pull(pull_of("registry.example/web:2", "user", "pw"), "sha256:two");
  pull(pull_of("registry.example/web:3", "user", "pw"), "sha256:two");
  remove("registry.example/web:9");
  remove("sha256:one");
  EXPECT_EQ(find("registry.example", "web"), List{"pw"}) << "another image still needs it";
  remove("registry.example/web:3");  // and with it all other names of this image
  EXPECT_EQ(find("registry.example", "web"), List{});
  EXPECT_EQ(logins_.size(), 0U);
}

TEST_F(CriLoginsTest, KeepsABoundedNumber) {
  for (std::size_t i = 0; i <= CriLogins::kRepositoriesMax; ++i) {
    pull(pull_of("registry.example/web" + std::to_string(i), "user", "pw"));
  }
  EXPECT_EQ(logins_.size(), CriLogins::kRepositoriesMax);
  EXPECT_EQ(find("registry.example", "web0"), List{}) << "the oldest gave way";
  EXPECT_EQ(find("registry.example", "web1"), List{"pw"});
}

}  // namespace
}  // namespace imsy::snapshotter
