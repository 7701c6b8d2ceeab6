#include "snapshotter/containerd_config.h"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace imsy::snapshotter {
namespace {

std::vector<std::string> texts_of(const toml::node_view<const toml::node>& node) {
  std::vector<std::string> texts;
  if (const toml::array* const list = node.as_array()) {
    for (const toml::node& element : *list) {
      if (const auto text = element.value<std::string>()) texts.push_back(*text);
    }
  }
  return texts;
}

ContainerdConfig::Proxy proxy_of(const toml::table& table) {
  ContainerdConfig::Proxy proxy;
  proxy.address = table["address"].value_or(std::string());
  proxy.capabilities = texts_of(table["capabilities"]);
  if (const toml::table* const exports = table["exports"].as_table()) {
    for (const auto& [key, value] : *exports) {
      proxy.exports[std::string(key.str())] = value.value_or(std::string());
    }
  }
  return proxy;
}

void read_cri(const toml::node_view<const toml::node>& images, ContainerdConfig& config) {
  if (!images.is_table()) return;
  config.cri_snapshotter = images["snapshotter"].value_or(config.cri_snapshotter);
  const auto without = images["disable_snapshot_annotations"].value<bool>();
  if (without) config.cri_without_annotations = without;
}

struct Version {
  int major = 0;
  int minor = 0;
  bool at_least(int wanted_major, int wanted_minor) const {
    return std::pair(major, minor) >= std::pair(wanted_major, wanted_minor);
  }
};

// "v2.1.4", "1.6.20~ds1".
Version parse_version(std::string_view text) {
  Version version;
  if (text.starts_with('v')) text.remove_prefix(1);
  const auto [dot, error] = std::from_chars(text.data(), text.data() + text.size(), version.major);
  if (error == std::errc() && dot != text.data() + text.size() && *dot == '.') {
    std::from_chars(dot + 1, text.data() + text.size(), version.minor);
  }
  return version;
}

bool contains(const std::vector<std::string>& list, std::string_view text) {
  return std::ranges::find(list, text) != list.end();
}

Advice unknown_to_containerd(const ContainerdConfig& config, const std::string& socket) {
  for (const auto& [name, proxy] : config.proxies) {
    if (proxy.address == "unix://" + socket) {
      return {"containerd cannot reach this snapshotter: [proxy_plugins." + name +
                  "] has an address with unix://",
              "set address = \"" + socket + "\""};
    }
  }
  return {
      "containerd does not know this snapshotter: no [proxy_plugins.NAME] of type "
      "\"snapshot\" has the address " +
          socket,
      "add it, as in examples/containerd, and restart containerd"};
}

// The transfer service, which containerd has from 2.0 on for its own pulls.
void advise_on_transfer(const ContainerdConfig& config, const std::string& name, bool knows_exports,
                        std::vector<Advice>& advice) {
  const std::string list = "[[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]";
  if (!config.unpacked_for || !contains(*config.unpacked_for, name)) {
    advice.push_back({"pulls for " + name +
                          " through the transfer service fail (ctr, newer "
                          "nerdctl, Kubernetes from containerd 2.1 on)",
                      "add " + list + " with snapshotter = \"" + name +
                          "\", and one for \"overlayfs\": a list replaces the default one"});
  } else if (config.unpacked_for->size() == 1) {
    advice.push_back(
        {"pulls for overlayfs through the transfer service fail: the list of "
         "unpack_config has " +
             name + " alone",
         "add " + list + " with snapshotter = \"overlayfs\""});
  }
  const auto& exports = config.proxies.at(name).exports;
  const auto annotations = exports.find("enable_remote_snapshot_annotations");
  if (knows_exports && (annotations == exports.end() || annotations->second != "true")) {
    advice.push_back(
        {"pulls through the transfer service do not tell the image's name: a registry "
         "on another port than 443 must be configured here, too",
         "set enable_remote_snapshot_annotations = \"true\" in [proxy_plugins." + name +
             ".exports]"});
  }
}

}  // namespace

Result<ContainerdConfig> parse_containerd_config(std::string_view text, std::string_view name) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return Error(Errc::kInvalid, std::string(name) + " line " +
                                     std::to_string(parsed.error().source().begin.line) + ": " +
                                     std::string(parsed.error().description()));
  }
  const toml::table& root = parsed.table();
  ContainerdConfig config;
  config.version = root["version"].value_or(1);
  const toml::array* const imports = root["imports"].as_array();
  config.has_imports = imports != nullptr && !imports->empty();
  if (const toml::table* const proxies = root["proxy_plugins"].as_table()) {
    for (const auto& [key, value] : *proxies) {
      const toml::table* const proxy = value.as_table();
      if (proxy == nullptr || (*proxy)["type"].value_or(std::string()) != "snapshot") continue;
      config.proxies[std::string(key.str())] = proxy_of(*proxy);
    }
  }
  const auto plugins = std::as_const(root)["plugins"];
  if (const toml::array* const list =
          plugins["io.containerd.transfer.v1.local"]["unpack_config"].as_array()) {
    config.unpacked_for.emplace();
    for (const toml::node& element : *list) {
      const toml::table* const one = element.as_table();
      if (one != nullptr) {
        config.unpacked_for->push_back((*one)["snapshotter"].value_or(std::string()));
      }
    }
  }
  read_cri(plugins["io.containerd.grpc.v1.cri"]["containerd"], config);  // version 2
  read_cri(plugins["io.containerd.cri.v1.images"], config);              // version 3 and newer
  return config;
}

std::vector<Advice> advise(const ContainerdConfig& config, const std::filesystem::path& socket,
                           std::string_view version) {
  const auto ours = std::ranges::find_if(
      config.proxies, [&](const auto& entry) { return entry.second.address == socket.string(); });
  if (ours == config.proxies.end()) {
    // It may stand in a file that is imported.
    if (config.has_imports) return {};
    return {unknown_to_containerd(config, socket.string())};
  }
  const std::string& name = ours->first;
  std::vector<Advice> advice;
  Version running = parse_version(version);
  // A file of version 3 or newer belongs to containerd 2; which one it is, nobody has said.
  if (running.major == 0) running = config.version >= 3 ? Version{2, 1} : Version{1, 6};
  for (const char* capability : {"rebase", "remap-ids"}) {
    if (!contains(ours->second.capabilities, capability)) continue;
    advice.push_back({std::string("the capability \"") + capability +
                          "\" is promised to containerd, and this snapshotter does not have it",
                      "take it from the capabilities of [proxy_plugins." + name + "]"});
  }
  if (running.at_least(2, 0)) {
    advise_on_transfer(config, name, running.at_least(2, 1), advice);
  }
  const bool by_transfer = running.at_least(2, 1) && !config.cri_without_annotations;
  if (config.cri_snapshotter == name && !by_transfer &&
      config.cri_without_annotations.value_or(true)) {
    advice.push_back(
        {"images that Kubernetes pulls are not lazy: labels do not reach the "
         "snapshotter",
         "set disable_snapshot_annotations = false beside snapshotter = \"" + name + "\""});
  }
  return advice;
}

}  // namespace imsy::snapshotter
