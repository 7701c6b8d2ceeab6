#include "snapshotter/registry_finder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "oci/descriptor.h"

namespace imsy::snapshotter {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

const auto kNever = Containerd::Deadline::max();

// A containerd with the content that a test puts into it.
class FakeContainerd : public Containerd {
 public:
  Result<std::vector<Labels>> manifests_with_layer(const std::string& name_space,
                                                   const Digest& blob, unsigned index,
                                                   Deadline) override {
    if (name_space != "default" || index != 1) return std::vector<Labels>();
    return manifests[blob];
  }
  Result<std::string> version(Deadline) override { return std::string("v2.1.4"); }
  Result<Labels> content_labels(const std::string& name_space, const Digest& digest,
                                Deadline) override {
    if (name_space != "default" || !blobs.contains(digest)) return missing(digest);
    return labels[digest];
  }
  Result<std::string> read_content(const std::string& name_space, const Digest& digest,
                                   std::uint64_t limit, Deadline) override {
    if (down) return Error(Errc::kUnavailable, "connection refused");
    if (name_space != "default" || !blobs.contains(digest)) return missing(digest);
    if (blobs[digest].size() > limit) return Error(Errc::kInvalid, "too large");
    return blobs[digest];
  }
  Result<std::vector<std::string>> image_names(const std::string&, const Digest& digest,
                                               Deadline) override {
    ++names_asked;
    return names[digest];
  }

  // A configuration with these layers; its digest.
  Digest add_config(const std::vector<Digest>& diff_ids, const std::string& extra = "") {
    oci::Json ids = oci::Json::array();
    for (const Digest& id : diff_ids) ids.push_back(id.to_string());
    const oci::Json config = {{"os", "linux"},
                              {"architecture", "amd64"},
                              {"author", extra},
                              {"rootfs", {{"type", "layers"}, {"diff_ids", ids}}}};
    const std::string text = config.dump();
    blobs[sha256(text)] = text;
    return sha256(text);
  }
  void pulled_from(const Digest& config, const std::string& host, const std::string& repositories) {
    labels[config]["containerd.io/distribution.source." + host] = repositories;
  }

  bool down = false;
  int names_asked = 0;
  std::map<Digest, std::string> blobs;
  std::map<Digest, Labels> labels;
  std::map<Digest, std::vector<std::string>> names;
  std::map<Digest, std::vector<Labels>> manifests;  // by the blob of layer 1

 private:
  static Error missing(const Digest& digest) {
    return Error(Errc::kNotFound, digest.to_string() + " not found");
  }
};

// What this machine has is none of a test's business.
Config without_hosts() {
  Config config;
  config.hosts_dir.clear();
  return config;
}

class RegistryFinderTest : public ::testing::Test {
 protected:
  const std::vector<Digest> layers_ = {sha256("anchor"), sha256("data")};
  FakeContainerd containerd_;
  const Digest config_ = containerd_.add_config(layers_);
  oci::HttpClient http_;
  Config configuration_ = without_hosts();

  ImageQuery query() {
    return {.name_space = "default",
            .config = config_,
            .image_ref = "",
            .diff_ids = layers_,
            .data_blob = sha256("blob"),
            .remembered = {}};
  }
  Result<std::vector<Source>> find(const ImageQuery& query) {
    return RegistryFinder(configuration_, containerd_, http_, oci::docker_credentials())
        .find(query, kNever);
  }
  void expect_nothing(const ImageQuery& query, const std::string& reason) {
    const auto sources = find(query);
    ASSERT_FALSE(sources);
    EXPECT_EQ(sources.error().code(), Errc::kUnavailable);
    EXPECT_THAT(sources.error().message(), HasSubstr(reason));
  }
};

TEST_F(RegistryFinderTest, AnImageThatWasBuiltUponThisOneSaysWhere) {
  // The pull of another image, which names our configuration, and has not brought it.
  ImageQuery derived = query();
  derived.config = sha256("configuration of the base");
  expect_nothing(derived, "not found");
  containerd_.manifests[sha256("blob")] = {
      {{"containerd.io/distribution.source.registry.example", "derived"}}, {}};
  for (const auto& config : {derived.config, std::optional<Digest>()}) {
    derived.config = config;
    const auto sources = find(derived);
    ASSERT_TRUE(sources) << sources.error().message();
    EXPECT_THAT(*sources,
                ElementsAre(Source{"registry.example", "derived", "https://registry.example/v2"}));
  }
  // A configuration that is here and another image's is a lie, and nothing is asked for it.
  derived.config = containerd_.add_config({sha256("other")});
  expect_nothing(derived, "belongs to another image");
}

TEST(ConfiguredHosts, DefaultsAreHttpsAndPlainHttpForLoopback) {
  const auto only = [](const std::string& name) {
    const std::string root = configured_hosts(name, {}).front().root;
    return root.substr(0, root.rfind("/v2"));
  };
  EXPECT_EQ(only("registry.example"), "https://registry.example");
  EXPECT_EQ(only("registry.example:5000"), "https://registry.example:5000");
  EXPECT_EQ(only("docker.io"), "https://registry-1.docker.io");
  EXPECT_EQ(only("127.0.0.1"), "http://127.0.0.1");
  EXPECT_EQ(only("127.0.0.1:5000"), "http://127.0.0.1:5000");
  EXPECT_EQ(only("localhost:5000"), "http://localhost:5000");
  EXPECT_EQ(only("[::1]:5000"), "http://[::1]:5000");
  EXPECT_EQ(only("::1"), "http://[::1]") << "as containerd's labels have it";
  EXPECT_EQ(only("[2001:db8::1]:5000"), "https://[2001:db8::1]:5000");
  EXPECT_EQ(only("127.0.0.1.example"), "https://127.0.0.1.example");
  EXPECT_EQ(only("localhost.example:80"), "https://localhost.example:80");
}

TEST(ConfiguredHosts, ConfigurationWinsAndTheMoreExactNameFirst) {
  const std::vector<RegistryConfig> configured = {
      {"127.0.0.1", {"http://127.0.0.1:5000"}}, {"127.0.0.1:6000", {"https://one", "https://two"}}};
  const auto roots = [&](const std::string& name) {
    std::vector<std::string> all;
    for (const oci::Host& host : configured_hosts(name, configured)) all.push_back(host.root);
    return all;
  };
  EXPECT_THAT(roots("127.0.0.1"), ElementsAre("http://127.0.0.1:5000/v2"));
  EXPECT_THAT(roots("127.0.0.1:7000"), ElementsAre("http://127.0.0.1:5000/v2"));
  EXPECT_THAT(roots("127.0.0.1:6000"), ElementsAre("https://one/v2", "https://two/v2"));
  EXPECT_THAT(roots("127.0.0.2"), ElementsAre("https://127.0.0.2/v2"));
}

TEST_F(RegistryFinderTest, ContainerdSaysWhereTheConfigurationCameFrom) {
  containerd_.pulled_from(config_, "registry.example", "web,team/web");
  containerd_.pulled_from(config_, "127.0.0.1", "local");
  configuration_.registries = {{"127.0.0.1", {"http://127.0.0.1:5000", "http://127.0.0.1:5001"}}};
  EXPECT_THAT(*find(query()),
              ElementsAre(Source{"127.0.0.1", "local", "http://127.0.0.1:5000/v2"},
                          Source{"127.0.0.1", "local", "http://127.0.0.1:5001/v2"},
                          Source{"registry.example", "web", "https://registry.example/v2"},
                          Source{"registry.example", "team/web", "https://registry.example/v2"}));
}

TEST_F(RegistryFinderTest, AReferenceThatAgreesAddsThePort) {
  containerd_.pulled_from(config_, "registry.example", "web");
  ImageQuery q = query();
  q.image_ref = "registry.example:8443/web:1";
  EXPECT_THAT(
      *find(q),
      ElementsAre(Source{"registry.example:8443", "web", "https://registry.example:8443/v2"},
                  Source{"registry.example", "web", "https://registry.example/v2"}));
  EXPECT_EQ(containerd_.names_asked, 0) << "a full scan in containerd, not needed here";
}

TEST_F(RegistryFinderTest, NamesOfImagesAddThePortLater) {
  containerd_.pulled_from(config_, "registry.example", "web");
  containerd_.names[config_] = {"elsewhere.example/web:1", "not a name",
                                "registry.example:8443/web:1", "registry.example:8443/other:1"};
  EXPECT_THAT(
      *find(query()),
      ElementsAre(Source{"registry.example:8443", "web", "https://registry.example:8443/v2"},
                  Source{"registry.example", "web", "https://registry.example/v2"}));
}

TEST_F(RegistryFinderTest, AReferenceOfTheImagesAuthorNamesNoHost) {
  containerd_.pulled_from(config_, "registry.example", "web");
  ImageQuery q = query();
  for (const char* hostile : {"internal.example/web:1", "registry.example:8443/private:1",
                              "registry.example@evil.example/web", "http://x", ""}) {
    q.image_ref = hostile;
    EXPECT_THAT(*find(q),
                ElementsAre(Source{"registry.example", "web", "https://registry.example/v2"}))
        << hostile;
  }
}

TEST_F(RegistryFinderTest, AForeignConfigurationIsNotBelieved) {
  // The author names the configuration of a private image that the node has pulled.
  const Digest foreign = containerd_.add_config({sha256("private"), sha256("layers")});
  containerd_.pulled_from(foreign, "private.example", "secret");
  ImageQuery q = query();
  q.config = foreign;
  q.image_ref = "private.example/secret:1";
  expect_nothing(q, "another image");
}

TEST_F(RegistryFinderTest, SaysWhyNothingIsKnown) {
  expect_nothing(query(), "does not know");  // loaded, not pulled
  ImageQuery q = query();
  q.config.reset();
  expect_nothing(q, "imsy.config");
  q = query();
  q.name_space = "";
  expect_nothing(q, "namespace");
  q = query();
  q.name_space = "other";
  expect_nothing(q, "not found");
  containerd_.down = true;
  expect_nothing(query(), "connection refused");
}

TEST_F(RegistryFinderTest, PlacesThatWorkedComeLastAndWithoutContainerd) {
  const Source worked{"old.example", "web", "https://old.example/v2"};
  ImageQuery q = query();
  q.remembered = {worked};
  containerd_.pulled_from(config_, "registry.example", "web");
  EXPECT_THAT(
      *find(q),
      ElementsAre(Source{"registry.example", "web", "https://registry.example/v2"}, worked));
  containerd_.down = true;
  EXPECT_THAT(*find(q), ElementsAre(worked));
}

TEST_F(RegistryFinderTest, PlacesThatAreNotConfiguredAnyMoreAreLeftOut) {
  ImageQuery q = query();
  q.remembered = {{"registry.example", "web", "https://gone.example/v2"},
                  {"registry.example", "web", "https://registry.example/v2"}};
  EXPECT_THAT(*find(q), ElementsAre(q.remembered[1]));
}

class HostsFileTest : public RegistryFinderTest {
 protected:
  HostsFileTest() {
    std::string name = (std::filesystem::temp_directory_path() / "imsy-hosts-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    configuration_.hosts_dir = name;
  }
  ~HostsFileTest() override { std::filesystem::remove_all(configuration_.hosts_dir); }

  void write(const std::string& path, const std::string& text) const {
    const auto file = configuration_.hosts_dir / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
};

TEST_F(HostsFileTest, MirrorsComeFirst) {
  containerd_.pulled_from(config_, "registry.example", "web");
  configuration_.registries = {{"registry.example", {"https://unused.example"}}};
  write("_default/hosts.toml", "[host.\"http://127.0.0.1:30020\"]\n");
  EXPECT_THAT(*find(query()),
              ElementsAre(Source{"registry.example", "web", "http://127.0.0.1:30020/v2"},
                          Source{"registry.example", "web", "https://registry.example/v2"}));
}

TEST_F(HostsFileTest, DirectoriesAddThePort) {
  containerd_.pulled_from(config_, "127.0.0.1", "web");
  write("127.0.0.1_5000_/hosts.toml", "server = 'http://mirror.example:5000/proxy'\n");
  EXPECT_THAT(*find(query()),
              ElementsAre(Source{"127.0.0.1:5000", "web", "http://mirror.example:5000/proxy/v2"},
                          Source{"127.0.0.1", "web", "http://127.0.0.1/v2"}));
}

TEST_F(HostsFileTest, ARegistryWithoutItsCertificateIsNotAsked) {
  containerd_.pulled_from(config_, "registry.example", "web");
  write("registry.example/hosts.toml", "ca = 'missing.crt'\n");
  expect_nothing(query(), "missing.crt");
}

TEST_F(HostsFileTest, AChangeGivesAnotherRegistryAndTrustDomain) {
  RegistryFinder finder(configuration_, containerd_, http_, oci::docker_credentials());
  const Source source{"registry.example", "web", "https://registry.example/v2"};
  const auto plain = finder.open(source);
  ASSERT_TRUE(plain) << plain.error().message();
  EXPECT_EQ(trust_domain(**plain, "secret"), "");
  write("registry.example/hosts.toml", "[header]\nx-key = '1'\n");
  const auto one = finder.open(source);
  EXPECT_NE(*one, *plain);
  EXPECT_EQ(*finder.open(source), *one);
  const std::string domain = trust_domain(**one, "secret");
  EXPECT_THAT(domain, HasSubstr("registry.example "));
  EXPECT_NE(trust_domain(**one, "another node's secret"), domain);
  write("registry.example/hosts.toml", "[header]\nx-key = '2'\n");
  EXPECT_NE(trust_domain(**finder.open(source), "secret"), domain);
  write("registry.example/hosts.toml", "server = 'https://moved.example'\n");
  EXPECT_EQ(finder.open(source).error().code(), Errc::kNotFound);
}

TEST_F(RegistryFinderTest, ThereIsALimit) {
  std::string repositories = "r0";
  for (int i = 1; i < 100; ++i) repositories += ",r" + std::to_string(i);
  containerd_.pulled_from(config_, "registry.example", repositories);
  EXPECT_THAT(*find(query()), SizeIs(16));
}

TEST_F(RegistryFinderTest, ARegistryIsSharedWhileItIsUsed) {
  RegistryFinder finder(configuration_, containerd_, http_, oci::docker_credentials());
  const Source source{"registry.example", "web", "https://registry.example/v2"};
  const auto one = finder.open(source);
  ASSERT_TRUE(one) << one.error().message();
  EXPECT_EQ(*finder.open(source), *one);
  EXPECT_NE(*finder.open({"registry.example", "other", "https://registry.example/v2"}), *one);
  EXPECT_FALSE(finder.open({"x", "Not A Repository", "https://x/v2"}));
}

TEST_F(RegistryFinderTest, ContentWithoutCredentialIsPublic) {
  RegistryFinder finder(configuration_, containerd_, http_, oci::docker_credentials());
  const Source source{"registry.example", "web", "https://registry.example/v2"};
  EXPECT_EQ(trust_domain(**finder.open(source), "secret"), "");
}

}  // namespace
}  // namespace imsy::snapshotter
