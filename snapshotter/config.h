// Config: the snapshotter's configuration file (TOML). docs/configuration.md describes every key.
//
// Threads: plain values.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "cas/store.h"
#include "common/result.h"

namespace imsy::snapshotter {

struct RegistryConfig {
  std::string host;                    // as in references; without a port: for any port
  std::vector<std::string> endpoints;  // "https://mirror.example:5000", asked in this order
};

struct Config {
  std::string log_level = "info";
  std::string containerd_address = "/run/containerd/containerd.sock";  // "": not asked
  // containerd's own configuration, for advice about it; "": none is given.
  std::filesystem::path containerd_config = "/etc/containerd/config.toml";
  std::chrono::seconds prepare_timeout{10};
  bool reduce_privileges = true;
  bool volatile_containers = false;
  bool background_fill = true;
  bool record_profiles = true;
  std::filesystem::path docker_config;                          // empty: as docker finds it
  std::filesystem::path hosts_dir = "/etc/containerd/certs.d";  // empty: not read
  cas::StoreOptions store = {.free_floor_percent = 10};
  unsigned connections_per_host = 16;
  std::uint64_t scrub_rate = 8u << 20;  // bytes a second; 0: never
  std::uint64_t background_rate = 0;    // bytes/s of the background; 0: no limit
  std::vector<RegistryConfig> registries;
  // Where /metrics and /healthz are: a socket's absolute path, or a loopback address with its port;
  // empty: nowhere.
  std::string metrics_address;
  // Of the kubelet's credential plugins; both empty: none are used.
  std::filesystem::path kubelet_config;
  std::filesystem::path kubelet_bin_dir;
  std::filesystem::path kubeconfig;  // of who may list the cluster's secrets; empty: none are used
  bool cri_image_service = false;    // the kubelet's calls are passed on to containerd
};

// `name` is the file's, for messages. kInvalid names file, line and key; an unknown key is an
// error.
Result<Config> parse_config(std::string_view text, std::string_view name);

// The keys whose values differ and are read at the start only, as "[store] dedup_scope".
std::vector<std::string> needs_restart(const Config& before, const Config& now);

// The file's content; the defaults when it does not exist and need not.
Result<Config> load_config(const std::filesystem::path& path, bool must_exist);

}  // namespace imsy::snapshotter
