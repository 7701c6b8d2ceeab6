#include "snapshotter/config.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::snapshotter {
namespace {

TEST(Config, DefaultsAreThoseOfAnEmptyFile) {
  const auto config = parse_config("", "c.toml");
  ASSERT_TRUE(config);
  EXPECT_EQ(config->log_level, "info");
  EXPECT_EQ(config->containerd_address, "/run/containerd/containerd.sock");
  EXPECT_EQ(config->prepare_timeout, std::chrono::seconds(10));
  EXPECT_TRUE(config->background_fill);
  EXPECT_TRUE(config->record_profiles);
  EXPECT_TRUE(config->docker_config.empty());
  EXPECT_EQ(config->hosts_dir, "/etc/containerd/certs.d");
  EXPECT_TRUE(config->registries.empty());
  EXPECT_EQ(config->store.quota_bytes, 0U);
  EXPECT_EQ(config->store.free_floor_percent, 10U);
  EXPECT_EQ(config->connections_per_host, 16U);
  EXPECT_EQ(config->scrub_rate, 8U << 20);
  EXPECT_EQ(config->background_rate, 0U);
}

TEST(Config, TheImageServiceNeedsContainerd) {
  EXPECT_FALSE(parse_config("", "c.toml")->cri_image_service);
  const auto on = parse_config("[cri]\nimage_service = true\n", "c.toml");
  ASSERT_TRUE(on) << on.error().message();
  EXPECT_TRUE(on->cri_image_service);
  EXPECT_FALSE(parse_config("containerd_address = \"\"\n[cri]\nimage_service = true\n", "c.toml"));
  EXPECT_FALSE(parse_config("cri = true\n", "c.toml"));
  EXPECT_FALSE(parse_config("[cri]\nimages = true\n", "c.toml"));
}

TEST(Config, PlacesOfCredentials) {
  const auto on = parse_config(
      "[credentials]\nkubelet_config = \"/etc/k/c.yaml\"\nkubelet_bin_dir = \"/usr/libexec/k\"\n"
      "kubeconfig = \"/etc/k/kubeconfig\"\n",
      "c.toml");
  ASSERT_TRUE(on) << on.error().message();
  EXPECT_EQ(on->kubelet_config, "/etc/k/c.yaml");
  EXPECT_EQ(on->kubelet_bin_dir, "/usr/libexec/k");
  EXPECT_EQ(on->kubeconfig, "/etc/k/kubeconfig");
  for (const char* bad : {"kubelet_config = \"/c.yaml\"", "kubelet_bin_dir = \"/k\"",
                          "kubelet_config = \"c.yaml\"\nkubelet_bin_dir = \"/k\"", "other = 1"}) {
    EXPECT_FALSE(parse_config("[credentials]\n" + std::string(bad) + "\n", "c.toml")) << bad;
  }
}

TEST(Config, EveryKeyIsRead) {
  const auto config = parse_config(R"(
log_level = "debug"
containerd_address = ""
containerd_config = "/etc/containerd/other.toml"
prepare_timeout = 3
background_fill = false
record_profiles = false
docker_config = "/etc/docker/config.json"
hosts_dir = "/etc/hosts.d"
[store]
dedup_scope = "node"
quota_bytes = 1_000_000
free_floor_percent = 20
scrub_rate = 0

[fetch]
connections_per_host = 4
background_rate = 1_000_000

[metrics]
address = "127.0.0.1:9342"

[[registry]]
host = "127.0.0.1"
endpoints = ["http://127.0.0.1:5000"]
[[registry]]
host = "registry.example:8443"
endpoints = ["https://mirror.example", "https://registry.example:8443"]
)",
                                   "c.toml");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->log_level, "debug");
  EXPECT_EQ(config->containerd_address, "");
  EXPECT_EQ(config->containerd_config, "/etc/containerd/other.toml");
  EXPECT_EQ(config->prepare_timeout, std::chrono::seconds(3));
  EXPECT_FALSE(config->background_fill);
  EXPECT_FALSE(config->record_profiles);
  EXPECT_EQ(config->docker_config, "/etc/docker/config.json");
  EXPECT_EQ(config->hosts_dir, "/etc/hosts.d");
  EXPECT_EQ(config->scrub_rate, 0U);
  ASSERT_EQ(config->registries.size(), 2U);
  EXPECT_EQ(config->registries[0].host, "127.0.0.1");
  EXPECT_EQ(config->registries[0].endpoints, (std::vector<std::string>{"http://127.0.0.1:5000"}));
  EXPECT_EQ(config->store.dedup_scope, cas::DedupScope::kNode);
  EXPECT_EQ(config->store.quota_bytes, 1'000'000U);
  EXPECT_EQ(config->store.free_floor_percent, 20U);
  EXPECT_EQ(config->connections_per_host, 4U);
  EXPECT_EQ(config->background_rate, 1'000'000U);
  EXPECT_EQ(config->metrics_address, "127.0.0.1:9342");
  EXPECT_EQ(config->registries[1].host, "registry.example:8443");
  EXPECT_EQ(config->registries[1].endpoints.size(), 2U);
}

struct ConfigCase {
  const char* text;
  const char* line;
  const char* key;
};

class ConfigErrors : public ::testing::TestWithParam<ConfigCase> {};

TEST_P(ConfigErrors, NameFileLineAndKey) {
  const auto config = parse_config(GetParam().text, "c.toml");
  ASSERT_FALSE(config) << GetParam().text;
  EXPECT_EQ(config.error().code(), Errc::kInvalid);
  const std::string where = std::string("c.toml line ") + GetParam().line + ":";
  EXPECT_TRUE(config.error().message().starts_with(where)) << config.error().message();
  EXPECT_NE(config.error().message().find(GetParam().key), std::string::npos)
      << config.error().message();
}

INSTANTIATE_TEST_SUITE_P(
    All, ConfigErrors,
    ::testing::Values(
        ConfigCase{"[metrics]\naddress = '0.0.0.0:9342'", "2", "address"},
        ConfigCase{"[metrics]\naddress = '192.0.2.1:9342'", "2", "address"},
        ConfigCase{"[metrics]\naddress = '127.0.0.1'", "2", "address"},
        ConfigCase{"[metrics]\naddress = '127.0.0.1:65536'", "2", "address"},
        ConfigCase{"[metrics]\naddress = '127.0.0.1:http'", "2", "address"},
        ConfigCase{"[metrics]\naddress = 'localhost.example:1'", "2", "address"},
        ConfigCase{"[metrics]\naddress = 'run/m.sock'", "2", "address"},
        ConfigCase{"[metrics]\nport = 1", "2", "port"}, ConfigCase{"metrics = 1", "1", "metrics"},
        ConfigCase{"\nlog_leve = 'x'", "2", "log_leve"},
        ConfigCase{"log_level = 'loud'", "1", "log_level"},
        ConfigCase{"containerd_config = 'config.toml'", "1", "containerd_config"},
        ConfigCase{"log_level = 1", "1", "log_level"},
        ConfigCase{"background_fill = 1", "1", "background_fill"},
        ConfigCase{"record_profiles = 'no'", "1", "record_profiles"},
        ConfigCase{"prepare_timeout = '10s'", "1", "prepare_timeout"},
        ConfigCase{"prepare_timeout = 0", "1", "prepare_timeout"},
        ConfigCase{"prepare_timeout = 61", "1", "prepare_timeout"},
        ConfigCase{"containerd_address = 'run/x'", "1", "containerd_address"},
        ConfigCase{"a = ", "1", ""}, ConfigCase{"store = 1", "1", "store"},
        ConfigCase{"[store]\nsize = 1", "2", "size"},
        ConfigCase{"[store]\nquota_bytes = -1", "2", "quota_bytes"},
        ConfigCase{"[store]\nfree_floor_percent = 91", "2", "free_floor_percent"},
        ConfigCase{"[fetch]\nconnections_per_host = 0", "2", "connections_per_host"},
        ConfigCase{"[fetch]\nbackground_rate = -1", "2", "background_rate"},
        ConfigCase{"[fetch]\nconnections = 1", "2", "connections"},
        ConfigCase{"fetch = 1", "1", "fetch"},
        ConfigCase{"[store]\ndedup_scope = 'all'", "2", "dedup_scope"},
        ConfigCase{"registry = 1", "1", "registry"},
        ConfigCase{"[registry]\nhost = 'a'", "1", "registry"},
        ConfigCase{"hosts_dir = 'certs.d'", "1", "hosts_dir"},
        ConfigCase{"hosts_dir = 1", "1", "hosts_dir"},
        ConfigCase{"[[registry]]\nhost = 'a'", "1", "endpoints"},
        ConfigCase{"[[registry]]\nendpoints = ['http://a']", "1", "host"},
        ConfigCase{"[[registry]]\nhost = 'https://a'\nendpoints = ['http://a']", "1", "host"},
        ConfigCase{"[[registry]]\nhost = 'a'\nendpoints = 'http://a'", "3", "endpoints"},
        ConfigCase{"[[registry]]\nhost = 'a'\nendpoints = [1]", "3", "endpoints"},
        ConfigCase{"[[registry]]\nhost = 'a'\nendpoints = ['ftp://a']", "1", "endpoints"},
        ConfigCase{"[[registry]]\nhost = 'a'\nendpoints = ['http://a/v2']", "1", "endpoints"},
        ConfigCase{"[[registry]]\nhost = 'a'\nendpoints = ['http://u@a']", "1", "endpoints"},
        ConfigCase{"[[registry]]\nhost = 'a'\nendpoints = ['http://a']\nx = 1", "4", "x"},
        ConfigCase{"[[registry]]\nhost = 'a'\nendpoints = ['http://a']\n"
                   "[[registry]]\nhost = 'a'\nendpoints = ['http://a']",
                   "4", "twice"}));

TEST(Config, MetricsMayBeWhereOnlyThisMachineReachesThem) {
  for (const char* address : {"127.0.0.1:9342", "127.1.2.3:0", "[::1]:9342", "/run/m.sock", ""}) {
    const auto config = parse_config("[metrics]\naddress = '" + std::string(address) + "'", "c");
    ASSERT_TRUE(config) << config.error().message();
    EXPECT_EQ(config->metrics_address, address);
  }
}

TEST(Config, WhatNeedsARestartIsNamed) {
  const Config before;
  Config now;
  EXPECT_TRUE(needs_restart(before, now).empty());
  now.log_level = "debug";
  now.prepare_timeout = std::chrono::seconds(1);
  now.store.quota_bytes = 1;
  now.registries.push_back({"a", {"https://b"}});
  EXPECT_TRUE(needs_restart(before, now).empty());
  now.store.dedup_scope = cas::DedupScope::kNode;
  now.metrics_address = "127.0.0.1:1";
  EXPECT_EQ(needs_restart(before, now),
            (std::vector<std::string>{"[store] dedup_scope", "[metrics] address"}));
}

TEST(Config, AMissingFileIsFineUnlessItWasNamed) {
  const test::TemporaryDirectory directory;
  EXPECT_TRUE(load_config(directory / "absent.toml", false));
  const auto named = load_config(directory / "absent.toml", true);
  ASSERT_FALSE(named);
  EXPECT_EQ(named.error().code(), Errc::kNotFound);
  EXPECT_NE(named.error().message().find("absent.toml"), std::string::npos);
}

TEST(Config, AFileIsReadAndNamedInErrors) {
  const test::TemporaryDirectory directory;
  std::ofstream(directory / "c.toml") << "log_level = \"warn\"\n";
  EXPECT_EQ(load_config(directory / "c.toml", true)->log_level, "warn");
  std::ofstream(directory / "c.toml") << "nonsense = 1\n";
  const auto config = load_config(directory / "c.toml", false);
  ASSERT_FALSE(config);
  EXPECT_NE(config.error().message().find("c.toml line 1: nonsense"), std::string::npos)
      << config.error().message();
}

}  // namespace
}  // namespace imsy::snapshotter
