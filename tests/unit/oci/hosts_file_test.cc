#include "oci/hosts_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/oci/support.h"

namespace imsy::oci {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr std::string_view kCertificate = "-----BEGIN CERTIFICATE-----\nAA==\n";
constexpr std::string_view kKey = "-----BEGIN PRIVATE KEY-----\nAA==\n";

HostsFile parse(std::string_view text) {
  auto file = parse_hosts_file(text, "/certs.d/registry.example");
  EXPECT_TRUE(file) << text << "\n" << file.error().message();
  return file ? std::move(*file) : HostsFile();
}

// The host of a file with one table [host."<url>"] and these lines.
HostEntry only(const std::string& lines, const std::string& url = "https://mirror.example") {
  HostsFile file = parse("[host.\"" + url + "\"]\n" + lines);
  EXPECT_THAT(file.entries, SizeIs(2));
  return file.entries.front();
}

TEST(HostsFile, MirrorsComeInTheOrderOfTheFileAndTheRegistryLast) {
  const HostsFile file = parse(R"(
server = "https://registry.example:5000"
capabilities = ["pull"]

[host."https://z.example"]
  capabilities = ["pull", "resolve"]

[host."https://implied.example".header]
  x-team = "blue"

[host."http://a.example:8080"]
[host."http://a.example:8080".header]
  x-team = "red"

[host."m.example"]
)");
  std::vector<std::string> roots;
  for (const HostEntry& entry : file.entries) roots.push_back(entry.host.root);
  EXPECT_THAT(roots, ElementsAre("https://z.example/v2", "https://implied.example/v2",
                                 "http://a.example:8080/v2", "https://m.example/v2",
                                 "https://registry.example:5000/v2"));
  EXPECT_THAT(file.entries[1].host.headers, ElementsAre(Pair("x-team", "blue")));
  EXPECT_THAT(file.notes, IsEmpty());
}

TEST(HostsFile, WithoutAServerTheRegistryItselfComesLast) {
  for (const char* text : {"", "[host.\"https://m.example\"]\n", "capabilities = ['push']"}) {
    const HostsFile file = parse(text);
    EXPECT_EQ(file.entries.back().host.root, "") << text;
    EXPECT_TRUE(file.entries.back().pull) << text;
  }
}

TEST(HostsFile, ThePathEndsWithTheVersionUnlessItIsOverridden) {
  struct Case {
    const char* url;
    const char* root;
    const char* overridden;
  };
  for (const Case& one : {
           Case{"https://m.example", "https://m.example/v2", "https://m.example"},
           Case{"https://m.example/", "https://m.example/v2", "https://m.example"},
           Case{"m.example:5000", "https://m.example:5000/v2", "https://m.example:5000"},
           Case{"https://m.example/us", "https://m.example/us/v2", "https://m.example/us"},
           Case{"https://m.example//us/", "https://m.example/us/v2", "https://m.example/us"},
           Case{"https://m.example/v2", "https://m.example/v2", "https://m.example/v2"},
           Case{"https://m.example/v2/hub", "https://m.example/v2/hub/v2",
                "https://m.example/v2/hub"},
           Case{"http://[::1]:5000/x?y=z", "http://[::1]:5000/x/v2", "http://[::1]:5000/x"},
       }) {
    EXPECT_EQ(only("", one.url).host.root, one.root);
    EXPECT_EQ(only("override_path = true\n", one.url).host.root, one.overridden);
    EXPECT_EQ(parse("server = \"" + std::string(one.url) + "\"").entries.back().host.root,
              one.root);
  }
}

TEST(HostsFile, CapabilitiesSayWhoIsAskedForContent) {
  EXPECT_TRUE(only("").pull);
  EXPECT_TRUE(only("capabilities = []\n").pull);
  EXPECT_TRUE(only("capabilities = ['resolve', 'Pull']\n").pull);
  EXPECT_FALSE(only("capabilities = ['resolve', 'push', 'referrers']\n").pull);
}

TEST(HostsFile, CertificatesAreOneOrSeveralFilesBesideIt) {
  const std::string here = "/certs.d/registry.example/";
  EXPECT_THAT(only("ca = 'ca.crt'\n").authorities, ElementsAre(here + "ca.crt"));
  EXPECT_THAT(only("ca = ['a.crt', '/etc/b.crt']\n").authorities,
              ElementsAre(here + "a.crt", "/etc/b.crt"));
  struct Case {
    const char* client;
    std::string certificate;
    std::string key;
  };
  for (const Case& one : {
           Case{"'c.pem'", here + "c.pem", ""},
           Case{"['c.pem', 'other.pem']", here + "c.pem", ""},
           Case{"[['c.cert', '/k.key']]", here + "c.cert", "/k.key"},
           Case{"[['c.pem', '']]", here + "c.pem", ""},
           Case{"[['c.cert', 'k.key'], 'other.pem']", here + "c.cert", here + "k.key"},
           Case{"[]", "", ""},
       }) {
    const HostEntry entry = only("client = " + std::string(one.client) + "\n");
    EXPECT_EQ(entry.certificate, one.certificate) << one.client;
    EXPECT_EQ(entry.key, one.key) << one.client;
  }
  EXPECT_TRUE(only("skip_verify = false\n").host.tls.verify);
  EXPECT_FALSE(only("skip_verify = true\n").host.tls.verify);
}

TEST(HostsFile, HeadersHaveOneValueOrSeveral) {
  HostsFile file = parse(R"([header]
one = "1"
two = ["a", "b"]
Host = "elsewhere.example"
accept-Encoding = "gzip"
)");
  EXPECT_THAT(file.entries.back().host.headers,
              ElementsAre(Pair("one", "1"), Pair("two", "a"), Pair("two", "b")));
  EXPECT_THAT(file.notes, SizeIs(2)) << "what frames a request cannot be set";
}

TEST(HostsFile, TimesAreWrittenAsInGo) {
  struct Case {
    const char* text;
    int milliseconds;
  };
  for (const Case& one : {Case{"3s", 3000}, Case{"250ms", 250}, Case{"1m1.5s", 61'500},
                          Case{"1us", 1}, Case{"9h", 600'000}}) {
    EXPECT_EQ(only("dial_timeout = '" + std::string(one.text) + "'\n").host.connect_timeout,
              milliseconds(one.milliseconds))
        << one.text;
  }
  EXPECT_EQ(only("").host.connect_timeout, Host().connect_timeout);
}

TEST(HostsFile, CommentsMayHoldAnything) {
  EXPECT_EQ(only("# Gr\xc3\xbc\xc3\x9f"
                 "e \xef\xba\xbf\xff\n")
                .host.root,
            "https://mirror.example/v2");
}

TEST(HostsFile, WhatIsUnknownIsNotedAndIgnored) {
  HostsFile file = parse("rewrite = 1\n[host.\"https://m.example\"]\nserver = 'x'\n");
  EXPECT_THAT(file.entries, SizeIs(2));
  EXPECT_THAT(file.notes, ElementsAre(HasSubstr("line 3: server"), HasSubstr("line 1: rewrite")));
}

TEST(HostsFile, ErrorsNameLineAndKey) {
  struct Case {
    const char* text;
    const char* line;
    const char* key;
  };
  for (const Case& one : {
           Case{"server = ", "1", ""},
           Case{"server = 1", "1", "server"},
           Case{"\nserver = 'ftp://a'", "1", "ftp://a"},
           Case{"host = 1", "1", "host"},
           Case{"[host]\na = 1", "2", "a"},
           Case{"[host.\"https://user:secret@a\"]", "1", "https://"},
           Case{"capabilities = 'pull'", "1", "capabilities"},
           Case{"capabilities = [1]", "1", "capabilities"},
           Case{"capabilities = ['fly']", "1", "capabilities"},
           Case{"\nca = 1", "2", "ca"},
           Case{"ca = ['a', 1]", "1", "ca"},
           Case{"client = 1", "1", "client"},
           Case{"client = [1]", "1", "client"},
           Case{"client = [['a']]", "1", "client"},
           Case{"client = [['a', 'b', 'c']]", "1", "client"},
           Case{"skip_verify = 'yes'", "1", "skip_verify"},
           Case{"override_path = 1", "1", "override_path"},
           Case{"header = 'a'", "1", "header"},
           Case{"[header]\nx = 1", "2", "x"},
           Case{"dial_timeout = 3", "1", "dial_timeout"},
           Case{"dial_timeout = '3'", "1", "dial_timeout"},
           Case{"dial_timeout = '-3s'", "1", "dial_timeout"},
           Case{"dial_timeout = 's'", "1", "dial_timeout"},
       }) {
    const auto file = parse_hosts_file(one.text, "/");
    ASSERT_FALSE(file) << one.text;
    EXPECT_EQ(file.error().code(), Errc::kInvalid);
    EXPECT_THAT(file.error().message(), HasSubstr("line " + std::string(one.line)));
    EXPECT_THAT(file.error().message(), HasSubstr(one.key));
  }
}

class HostsDirectoryTest : public ::testing::Test {
 protected:
  void write(const std::string& path, std::string_view text) const {
    std::filesystem::create_directories((dir_.path() / path).parent_path());
    dir_.write(path, text);
  }
  std::vector<Host> hosts(const std::string& name) const {
    auto found = directory_.hosts_for(name);
    EXPECT_TRUE(found) << name << ": " << found.error().message();
    return found ? std::move(*found) : std::vector<Host>();
  }
  std::vector<std::string> roots(const std::string& name) const {
    std::vector<std::string> all;
    for (const Host& host : hosts(name)) all.push_back(host.root);
    return all;
  }
  void expect_error(const std::string& name, Errc code) const {
    const auto found = directory_.hosts_for(name);
    ASSERT_FALSE(found) << name;
    EXPECT_EQ(found.error().code(), code) << found.error().message();
  }

  TempDir dir_;
  HostsDirectory directory_{dir_.path()};
};

TEST_F(HostsDirectoryTest, TheMoreExactDirectoryDecides) {
  expect_error("registry.example", Errc::kNotFound);
  write("_default/hosts.toml", "server = 'https://default.example'");
  EXPECT_THAT(roots("registry.example:5000"), ElementsAre("https://default.example/v2"));
  write("registry.example:5000/hosts.toml", "server = 'https://colon.example'");
  EXPECT_THAT(roots("registry.example:5000"), ElementsAre("https://colon.example/v2"));
  write("registry.example_5000_/hosts.toml", "server = 'https://port.example'");
  EXPECT_THAT(roots("registry.example:5000"), ElementsAre("https://port.example/v2"));
  EXPECT_THAT(roots("registry.example"), ElementsAre("https://default.example/v2"));
  write("[::1]_5000_/hosts.toml", "server = 'http://[::1]:6000'");
  EXPECT_THAT(roots("[::1]:5000"), ElementsAre("http://[::1]:6000/v2"));
}

TEST_F(HostsDirectoryTest, NamesLeadNowhereElse) {
  const TempDir outside;
  outside.write("hosts.toml", "server = 'https://evil.example'");
  const std::string up = "../" + outside.path().filename().string();
  for (const std::string& name : {up, std::string(".."), std::string("."), std::string("a/b"),
                                  std::string("_default"), std::string()}) {
    expect_error(name, Errc::kNotFound);
  }
  EXPECT_EQ(HostsDirectory("").hosts_for("x").error().code(), Errc::kNotFound);
}

TEST_F(HostsDirectoryTest, MirrorsAreToldWhichRegistryIsMeant) {
  write("docker.io/hosts.toml",
        "[host.'https://mirror.example/hub']\noverride_path = true\n"
        "[host.'https://push.example']\ncapabilities = ['push']\n"
        "[host.'https://registry-1.docker.io']\n");
  const auto all = hosts("docker.io");
  ASSERT_THAT(all, SizeIs(3)) << "who may not be pulled from is left out";
  EXPECT_EQ(all[0].root, "https://mirror.example/hub");
  EXPECT_EQ(all[0].name_space, "docker.io");
  EXPECT_EQ(all[1].name_space, "");
  EXPECT_EQ(all[2].root, "https://registry-1.docker.io/v2");
  EXPECT_EQ(all[2].name_space, "");
  write("r.example_5000_/hosts.toml", "[host.'http://127.0.0.1:30020']\n");
  EXPECT_EQ(hosts("r.example:5000")[0].name_space, "r.example:5000");
  EXPECT_EQ(hosts("r.example:5000")[1].name_space, "");
}

TEST_F(HostsDirectoryTest, TheRegistryItselfIsAskedByHttpsUnlessItIsOnLoopback) {
  write("r.example/hosts.toml", "[header]\nx = 'y'\n");
  EXPECT_THAT(roots("r.example"), ElementsAre("https://r.example/v2"));
  EXPECT_THAT(hosts("r.example")[0].headers, ElementsAre(Pair("x", "y")));
  write("127.0.0.1_5000_/hosts.toml", "");
  EXPECT_THAT(roots("127.0.0.1:5000"), ElementsAre("http://127.0.0.1:5000/v2"));
  write("127.0.0.1_5000_/hosts.toml", "skip_verify = true");
  EXPECT_THAT(roots("127.0.0.1:5000"), ElementsAre("https://127.0.0.1:5000/v2"))
      << "what is said about TLS means that it is spoken";
}

TEST_F(HostsDirectoryTest, WithoutAHostsFileCertificatesAreTakenAsDockerHasThem) {
  write("r.example/b.crt", kCertificate);
  write("r.example/a.crt", std::string(kCertificate) + "# a");
  write("r.example/client.cert", kCertificate);
  write("r.example/client.key", kKey);
  write("r.example/notes.txt", "none");
  const auto all = hosts("r.example");
  ASSERT_THAT(all, SizeIs(1));
  EXPECT_EQ(all[0].root, "https://r.example/v2");
  EXPECT_EQ(all[0].tls.authorities,
            std::string(kCertificate) + "# a\n" + std::string(kCertificate));
  EXPECT_EQ(all[0].tls.certificate, kCertificate);
  EXPECT_EQ(all[0].tls.key, kKey);
  write("alone.example/both.cert", std::string(kCertificate) + std::string(kKey));
  EXPECT_EQ(hosts("alone.example")[0].tls.key, std::string(kCertificate) + std::string(kKey));
}

TEST_F(HostsDirectoryTest, AFileThatIsNotUnderstoodCountsAsAbsent) {
  write("r.example/ca.crt", kCertificate);
  write("r.example/hosts.toml", "server = 'https://elsewhere.example'\ncapabilities = ['fly']");
  EXPECT_THAT(roots("r.example"), ElementsAre("https://r.example/v2"));
  EXPECT_EQ(hosts("r.example")[0].tls.authorities, kCertificate);
}

TEST_F(HostsDirectoryTest, CertificatesThatCannotBeUsedAreErrors) {
  write("r.example/hosts.toml", "ca = 'missing.crt'");
  expect_error("r.example", Errc::kInvalid);
  write("r.example/hosts.toml", "ca = 'hosts.toml'");
  expect_error("r.example", Errc::kInvalid);
  write("r.example/hosts.toml", "client = 'hosts.toml'");
  expect_error("r.example", Errc::kInvalid);
}

TEST_F(HostsDirectoryTest, AChangeIsSeen) {
  write("r.example/hosts.toml", "ca = 'ca.crt'");
  write("r.example/ca.crt", kCertificate);
  const Host before = hosts("r.example")[0];
  EXPECT_EQ(hosts("r.example")[0], before);
  write("r.example/ca.crt", std::string(kCertificate) + "# renewed\n");
  EXPECT_NE(hosts("r.example")[0], before);
  write("r.example/hosts.toml", "server = 'https://moved.example'");
  EXPECT_THAT(roots("r.example"), ElementsAre("https://moved.example/v2"));
}

TEST_F(HostsDirectoryTest, KnowsTheNamesWithAPort) {
  for (const char* name :
       {"r.example_5000_", "r.example_443_", "r.example", "r.example__", "r.example_x_",
        "r.example_5000", "other.example_5000_", "[::1]_5000_"}) {
    std::filesystem::create_directory(dir_.path() / name);
  }
  EXPECT_THAT(directory_.names_with_port("r.example"),
              ElementsAre("r.example:443", "r.example:5000"));
  EXPECT_THAT(directory_.names_with_port("::1"), ElementsAre("[::1]:5000"));
  EXPECT_THAT(HostsDirectory("/nonexistent").names_with_port("r.example"), IsEmpty());
}

}  // namespace
}  // namespace imsy::oci
