// References are read as Docker and containerd read them; the tables were checked against the
// published rules of distribution/reference.
#include "oci/reference.h"

#include <gtest/gtest.h>

#include <string>

namespace imsy::oci {
namespace {

const std::string kHex(64, 'a');
const std::string kDigest = "sha256:" + kHex;
const std::string kLongHost = std::string(250, 'h') + ".io";

struct Good {
  std::string text, host, repository, tag;
  bool digest = false;
};

TEST(Reference, NormalisesAsDockerDoes) {
  const Good cases[] = {
      {"ubuntu", "docker.io", "library/ubuntu", "latest"},
      {"ubuntu:24.04", "docker.io", "library/ubuntu", "24.04"},
      {"bitnami/redis", "docker.io", "bitnami/redis", "latest"},
      {"docker.io/ubuntu", "docker.io", "library/ubuntu", "latest"},
      {"index.docker.io/ubuntu:x", "docker.io", "library/ubuntu", "x"},
      {"docker.io/a/b/c:1", "docker.io", "a/b/c", "1"},
      {"localhost/web", "localhost", "web", "latest"},
      {"localhost:5000/web:v1", "localhost:5000", "web", "v1"},
      {"localhost:5000", "docker.io", "library/localhost", "5000"},
      {"127.0.0.1:5000/a/b:tag", "127.0.0.1:5000", "a/b", "tag"},
      {"[2001:db8::1]:5000/a", "[2001:db8::1]:5000", "a", "latest"},
      {"[::1]/a", "[::1]", "a", "latest"},
      {"Host/a", "Host", "a", "latest"},
      {"ghcr.io/own-er/re_po.x/a__b/c---d", "ghcr.io", "own-er/re_po.x/a__b/c---d", "latest"},
      {"a/b:T_a.G-1", "docker.io", "a/b", "T_a.G-1"},
      {"web@" + kDigest, "docker.io", "library/web", "", true},
      {"127.0.0.1:5000/a/b:tag@" + kDigest, "127.0.0.1:5000", "a/b", "tag", true},
      {"quay.io/a:" + std::string(128, 't'), "quay.io", "a", std::string(128, 't')},
      {"quay.io/" + std::string(255, 'a'), "quay.io", std::string(255, 'a'), "latest"},
      {kLongHost + "/" + std::string(255, 'a') + "@" + kDigest, kLongHost, std::string(255, 'a'),
       "", true},
      {kHex + "a", "docker.io", "library/" + kHex + "a", "latest"},
      {"library/" + kHex, "docker.io", "library/" + kHex, "latest"},
  };
  for (const Good& good : cases) {
    auto parsed = Reference::parse(good.text);
    ASSERT_TRUE(parsed) << good.text << ": " << parsed.error().message();
    EXPECT_EQ(parsed->host, good.host) << good.text;
    EXPECT_EQ(parsed->repository, good.repository) << good.text;
    EXPECT_EQ(parsed->tag, good.tag) << good.text;
    EXPECT_EQ(parsed->digest.has_value(), good.digest) << good.text;
    auto again = Reference::parse(parsed->to_string());
    ASSERT_TRUE(again) << parsed->to_string();
    EXPECT_EQ(again->to_string(), parsed->to_string());
  }
}

TEST(Reference, RefusesWhatDockerRefuses) {
  const std::string cases[] = {
      "",
      "/",
      "a/",
      "/a",
      "a//b",
      ":tag",
      "@" + kDigest,
      "Ubuntu",
      "docker.io/Web",
      "quay.io/a/B",
      "a/b:",
      "a/b:-x",
      "a/b:.x",
      "a/b:x y",
      "a/b:" + std::string(129, 't'),
      "a/b:x:y",
      "a@",
      "a@sha256:" + std::string(63, 'a'),
      "a@sha256:" + std::string(64, 'A'),
      "a@sha512:" + std::string(128, 'a'),
      "a@" + kDigest + "@" + kDigest,
      "a@" + kDigest + ":tag",
      "a/-b",
      "a/b-",
      "a/_b",
      "a/b..c",
      "a/b___c",
      "a/b._c",
      "-host.io/a",
      "host-.io/a",
      "host..io/a",
      "host.io./a",
      "host.io:/a",
      "host.io:5x/a",
      "[::1/a",
      "[::1]x/a",
      "[g::]/a",
      "https://docker.io/a",
      "a b",
      " a",
      "a\n",
      kHex,
      "quay.io/" + std::string(256, 'a'),
      std::string(254, 'h') + ".io/a",
      "host.io:123456/a",
      std::string(5000, 'a'),
  };
  for (const std::string& text : cases) {
    auto parsed = Reference::parse(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), Errc::kInvalid) << text;
  }
}

TEST(Reference, MessageStaysOnOneLine) {
  auto parsed = Reference::parse("a/b:\nERROR forged\x1b[0m");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().message().find_first_of("\n\x1b"), std::string::npos);
}

TEST(Reference, PrefersTheDigest) {
  auto both = Reference::parse("host:1/a:tag@" + kDigest);
  ASSERT_TRUE(both);
  EXPECT_EQ(both->object(), kDigest);
  EXPECT_EQ(both->name(), "host:1/a");
  auto tagged = Reference::parse("host:1/a:tag");
  ASSERT_TRUE(tagged);
  EXPECT_EQ(tagged->object(), "tag");
}

}  // namespace
}  // namespace imsy::oci
