// What containerd's own configuration file says about this snapshotter, and what it should say.
//
// Threads: pure functions.
// Source: containerd docs/man/containerd-config.toml.5.md, docs/PLUGINS.md; cmd/containerd/server.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace imsy::snapshotter {

// The parts that matter here.
struct ContainerdConfig {
  struct Proxy {
    std::string address;
    std::map<std::string, std::string> exports;
    std::vector<std::string> capabilities;
  };
  int version = 1;                       // of the file's format
  std::map<std::string, Proxy> proxies;  // those that are snapshotters, by name
  // Snapshotters that the transfer service unpacks for; nullopt: its default.
  std::optional<std::vector<std::string>> unpacked_for;
  std::string cri_snapshotter;  // "": its default
  std::optional<bool> cri_without_annotations;
  bool has_imports = false;  // what they say is not known
};

// kInvalid: not TOML; `name` is the file's. What has another form than containerd expects is taken
// for absent: to complain about that is containerd's affair.
Result<ContainerdConfig> parse_containerd_config(std::string_view text, std::string_view name);

// Something that keeps images from being served lazily, or worse, and how to mend it.
struct Advice {
  std::string what;
  std::string remedy;
  bool operator==(const Advice&) const = default;
};

// `socket` is where we listen. `version` is containerd's, "" when it is not known; then the file's
// format tells it apart, as far as it can.
std::vector<Advice> advise(const ContainerdConfig& config, const std::filesystem::path& socket,
                           std::string_view version);

}  // namespace imsy::snapshotter
