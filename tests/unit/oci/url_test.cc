#include "oci/url.h"

#include <gtest/gtest.h>

namespace imsy::oci {
namespace {

TEST(Url, ComparesOriginsAfterNormalising) {
  auto url = parse_url("HTTPS://Registry.Example/v2/?a=b#fragment");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->origin(), "https://registry.example:443");
  EXPECT_EQ(url->shown(), "https://registry.example:443/v2/");
  EXPECT_EQ(url->text.find('#'), std::string::npos);
  EXPECT_NE(url->text.find("?a=b"), std::string::npos);
  EXPECT_EQ(parse_url("http://[::1]:5000")->origin(), "http://[::1]:5000");
}

TEST(Url, ResolvesLocations) {
  auto base = parse_url("http://host:5000/v2/a/blobs/uploads/?x=y");
  ASSERT_TRUE(base);
  const std::pair<const char*, const char*> cases[] = {
      {"/v2/b?state=1", "http://host:5000/v2/b?state=1"},
      {"id", "http://host:5000/v2/a/blobs/uploads/id"},
      {"https://other/q", "https://other/q"},
      {"//other/q", "http://other/q"},
      {"?z=1", "http://host:5000/v2/a/blobs/uploads/?z=1"},
  };
  for (const auto& [reference, expected] : cases) {
    auto resolved = resolve_url(*base, reference);
    ASSERT_TRUE(resolved) << reference;
    EXPECT_EQ(resolved->text, expected);
  }
  for (const char* bad :
       {"file:///etc/passwd", "ftp://host/x", "http://user:pw@host/", "\x01", "javascript:alert(1)",
        "unix:/run/x", "//a%0ab/", "http://h%25/p", "//a%ff/x", "http://h_;x/"}) {
    EXPECT_FALSE(resolve_url(*base, bad)) << bad;
  }
}

TEST(Url, AppendsToTheQuery) {
  EXPECT_EQ(with_query("http://h/p", "digest", "sha256:ab"), "http://h/p?digest=sha256%3Aab");
  EXPECT_EQ(with_query("http://h/p?a=b", "c", "d e"), "http://h/p?a=b&c=d%20e");
}

}  // namespace
}  // namespace imsy::oci
