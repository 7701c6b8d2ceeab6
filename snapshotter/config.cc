#include "snapshotter/config.h"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <limits>

#include "common/io.h"

namespace imsy::snapshotter {
namespace {

constexpr std::uint64_t kFileLimit = 1 << 20;
// A longer wait would hold up everything that containerd does with the snapshotter.
constexpr std::int64_t kPrepareTimeoutMax = 60;
constexpr std::int64_t kFreeFloorMax = 90;  // percent
constexpr std::int64_t kConnectionsMax = 256;

// Reads one table; remembers which of its keys were asked for.
class TableReader {
 public:
  TableReader(const toml::table& table, std::string_view name) : table_(table), name_(name) {}

  Status text(std::string_view key, std::string& to) {
    return read<std::string>(key, "a string", [&](const std::string& value) { to = value; });
  }
  Status flag(std::string_view key, bool& to) {
    return read<bool>(key, "true or false", [&](bool value) { to = value; });
  }
  Status seconds(std::string_view key, std::int64_t max, std::chrono::seconds& to) {
    std::int64_t value = to.count();
    IMSY_TRY(read<std::int64_t>(key, "a number of seconds", [&](std::int64_t v) { value = v; }));
    if (value < 1 || value > max) {
      return fail(*table_.get(key), key, "must be 1 to " + std::to_string(max) + " seconds");
    }
    to = std::chrono::seconds(value);
    return {};
  }
  // From `min` to `max`.
  Status integer(std::string_view key, std::int64_t min, std::int64_t max, std::int64_t& to) {
    IMSY_TRY(read<std::int64_t>(key, "a whole number", [&](std::int64_t value) { to = value; }));
    if (to < min || to > max) {
      return fail(*table_.get(key), key,
                  "must be " + std::to_string(min) + " to " + std::to_string(max));
    }
    return {};
  }
  Status texts(std::string_view key, std::vector<std::string>& to) {
    const toml::node* node = find(key);
    if (node == nullptr) return {};
    if (!node->is_array()) return fail(*node, key, "must be a list of strings");
    for (const toml::node& element : *node->as_array()) {
      const auto value = element.value_exact<std::string>();
      if (!value) return fail(element, key, "must be a list of strings");
      to.push_back(*value);
    }
    return {};
  }

  // A path that is absolute, or "".
  Status path(std::string_view key, std::filesystem::path& to) {
    std::string value = to;
    IMSY_TRY(text(key, value));
    if (!value.empty() && value.front() != '/') {
      return fail(*table_.get(key), key, "must be an absolute path");
    }
    to = value;
    return {};
  }
  // The table of a key; null when it is absent.
  Result<const toml::table*> section(std::string_view key) {
    const toml::node* const node = find(key);
    if (node == nullptr) return static_cast<const toml::table*>(nullptr);
    if (!node->is_table()) return fail(*node, key, "must be [" + std::string(key) + "]");
    return node->as_table();
  }

  // The node of a key, which counts as known from then on.
  const toml::node* find(std::string_view key) {
    known_.push_back(key);
    return table_.get(key);
  }
  // Must come last.
  Status refuse_others() const {
    for (const auto& [key, node] : table_) {
      if (std::ranges::find(known_, key.str()) == known_.end()) {
        return fail(node, key.str(), "is not a known key");
      }
    }
    return {};
  }
  Error fail(const toml::node& node, std::string_view key, std::string_view what) const {
    return Error(Errc::kInvalid, std::string(name_) + " line " +
                                     std::to_string(node.source().begin.line) + ": " +
                                     std::string(key) + " " + std::string(what));
  }

 private:
  template <typename T, typename Store>
  Status read(std::string_view key, std::string_view wanted, Store store) {
    const toml::node* node = find(key);
    if (node == nullptr) return {};
    const auto value = node->value_exact<T>();
    if (!value) return fail(*node, key, "must be " + std::string(wanted));
    store(*value);
    return {};
  }

  const toml::table& table_;
  std::string_view name_;
  std::vector<std::string_view> known_;
};

// "http://host" or "https://host", with or without port, nothing behind it.
bool is_endpoint(std::string_view text) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (!text.starts_with(scheme)) continue;
    text.remove_prefix(scheme.size());
    return !text.empty() && text.find_first_of("/?#@ \t\r\n") == std::string_view::npos;
  }
  return false;
}

Result<RegistryConfig> parse_registry(const toml::table& table, std::string_view name) {
  RegistryConfig registry;
  TableReader reader(table, name);
  IMSY_TRY(reader.text("host", registry.host));
  IMSY_TRY(reader.texts("endpoints", registry.endpoints));
  IMSY_TRY(reader.refuse_others());
  if (registry.host.empty() || registry.host.find_first_of("/ @") != std::string::npos) {
    return reader.fail(table, "host", "must name a registry as references do, without a scheme");
  }
  if (registry.endpoints.empty()) return reader.fail(table, "endpoints", "must not be empty");
  for (const std::string& endpoint : registry.endpoints) {
    if (!is_endpoint(endpoint)) {
      return reader.fail(table, "endpoints",
                         "must be like https://host:port, without a path: " + endpoint);
    }
  }
  return registry;
}

Status parse_store(TableReader& reader, std::string_view name, Config& config) {
  IMSY_TRY_ASSIGN(const toml::table* const table, reader.section("store"));
  if (table == nullptr) return {};
  TableReader store(*table, name);
  std::string scope = "credential";
  IMSY_TRY(store.text("dedup_scope", scope));
  if (scope != "credential" && scope != "node") {
    return store.fail(*table->get("dedup_scope"), "dedup_scope",
                      "must be \"credential\" or \"node\"");
  }
  if (scope == "node") config.store.dedup_scope = cas::DedupScope::kNode;
  std::int64_t quota = 0;
  IMSY_TRY(store.integer("quota_bytes", 0, std::numeric_limits<std::int64_t>::max(), quota));
  config.store.quota_bytes = static_cast<std::uint64_t>(quota);
  std::int64_t floor = config.store.free_floor_percent;
  IMSY_TRY(store.integer("free_floor_percent", 0, kFreeFloorMax, floor));
  config.store.free_floor_percent = static_cast<unsigned>(floor);
  auto rate = static_cast<std::int64_t>(config.scrub_rate);
  IMSY_TRY(store.integer("scrub_rate", 0, std::numeric_limits<std::int64_t>::max(), rate));
  config.scrub_rate = static_cast<std::uint64_t>(rate);
  return store.refuse_others();
}

Status parse_fetch(TableReader& reader, std::string_view name, Config& config) {
  IMSY_TRY_ASSIGN(const toml::table* const table, reader.section("fetch"));
  if (table == nullptr) return {};
  TableReader fetch(*table, name);
  std::int64_t connections = config.connections_per_host;
  IMSY_TRY(fetch.integer("connections_per_host", 1, kConnectionsMax, connections));
  config.connections_per_host = static_cast<unsigned>(connections);
  std::int64_t rate = 0;
  IMSY_TRY(fetch.integer("background_rate", 0, std::numeric_limits<std::int64_t>::max(), rate));
  config.background_rate = static_cast<std::uint64_t>(rate);
  return fetch.refuse_others();
}

Status parse_credentials(TableReader& reader, std::string_view name, Config& config) {
  IMSY_TRY_ASSIGN(const toml::table* const table, reader.section("credentials"));
  if (table == nullptr) return {};
  TableReader credentials(*table, name);
  IMSY_TRY(credentials.path("kubelet_config", config.kubelet_config));
  IMSY_TRY(credentials.path("kubelet_bin_dir", config.kubelet_bin_dir));
  IMSY_TRY(credentials.path("kubeconfig", config.kubeconfig));
  if (config.kubelet_config.empty() != config.kubelet_bin_dir.empty()) {
    return reader.fail(*table, "kubelet_config", "and kubelet_bin_dir are needed together");
  }
  return credentials.refuse_others();
}

Status parse_cri(TableReader& reader, std::string_view name, Config& config) {
  IMSY_TRY_ASSIGN(const toml::table* const table, reader.section("cri"));
  if (table == nullptr) return {};
  TableReader cri(*table, name);
  IMSY_TRY(cri.flag("image_service", config.cri_image_service));
  if (config.cri_image_service && config.containerd_address.empty()) {
    return reader.fail(*table, "image_service",
                       "needs containerd_address, where calls are passed to");
  }
  return cri.refuse_others();
}

Status parse_registries(TableReader& reader, std::string_view name,
                        std::vector<RegistryConfig>& registries) {
  const toml::node* node = reader.find("registry");
  if (node == nullptr) return {};
  if (!node->is_array_of_tables()) return reader.fail(*node, "registry", "must be [[registry]]");
  for (const toml::node& element : *node->as_array()) {
    IMSY_TRY_ASSIGN(auto registry, parse_registry(*element.as_table(), name));
    const auto same = [&](const RegistryConfig& other) { return other.host == registry.host; };
    if (std::ranges::any_of(registries, same)) {
      return reader.fail(element, "host", registry.host + " is configured twice");
    }
    registries.push_back(std::move(registry));
  }
  return {};
}

// Whether only this machine reaches "host:port".
bool is_loopback(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos || colon + 1 == address.size()) return false;
  const std::string_view port = address.substr(colon + 1);
  constexpr int kPortMax = 65'535;
  const bool is_number = port.size() <= 5 &&
                         port.find_first_not_of("0123456789") == std::string_view::npos &&
                         std::stoi(std::string(port)) <= kPortMax;
  std::string host(address.substr(0, colon));
  if (host == "[::1]") return is_number;
  in_addr v4 = {};
  return is_number && inet_pton(AF_INET, host.c_str(), &v4) == 1 &&
         ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
}

Status parse_metrics(TableReader& reader, std::string_view name, std::string& address) {
  IMSY_TRY_ASSIGN(const toml::table* const table, reader.section("metrics"));
  if (table == nullptr) return {};
  TableReader metrics(*table, name);
  IMSY_TRY(metrics.text("address", address));
  if (!address.empty() && address.front() != '/' && !is_loopback(address)) {
    return metrics.fail(*table->get("address"), "address",
                        "must be the absolute path of a socket, or like 127.0.0.1:9342 or "
                        "[::1]:9342: whoever reaches it can read it");
  }
  return metrics.refuse_others();
}

}  // namespace

Result<Config> parse_config(std::string_view text, std::string_view name) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return Error(Errc::kInvalid, std::string(name) + " line " +
                                     std::to_string(parsed.error().source().begin.line) + ": " +
                                     std::string(parsed.error().description()));
  }
  Config config;
  TableReader reader(parsed.table(), name);
  IMSY_TRY(reader.text("log_level", config.log_level));
  constexpr std::array<std::string_view, 5> kLevels = {"trace", "debug", "info", "warn", "error"};
  if (std::ranges::find(kLevels, config.log_level) == kLevels.end()) {
    return reader.fail(*parsed.table().get("log_level"), "log_level",
                       "must be trace, debug, info, warn or error");
  }
  IMSY_TRY(reader.text("containerd_address", config.containerd_address));
  if (!config.containerd_address.empty() && config.containerd_address.front() != '/') {
    return reader.fail(*parsed.table().get("containerd_address"), "containerd_address",
                       "must be the absolute path of a socket");
  }
  IMSY_TRY(reader.seconds("prepare_timeout", kPrepareTimeoutMax, config.prepare_timeout));
  IMSY_TRY(reader.flag("reduce_privileges", config.reduce_privileges));
  IMSY_TRY(reader.flag("volatile_containers", config.volatile_containers));
  IMSY_TRY(reader.flag("background_fill", config.background_fill));
  IMSY_TRY(reader.flag("record_profiles", config.record_profiles));
  std::string docker_config;
  IMSY_TRY(reader.text("docker_config", docker_config));
  config.docker_config = docker_config;
  IMSY_TRY(reader.path("containerd_config", config.containerd_config));
  IMSY_TRY(reader.path("hosts_dir", config.hosts_dir));
  IMSY_TRY(parse_store(reader, name, config));
  IMSY_TRY(parse_fetch(reader, name, config));
  IMSY_TRY(parse_metrics(reader, name, config.metrics_address));
  IMSY_TRY(parse_credentials(reader, name, config));
  IMSY_TRY(parse_cri(reader, name, config));
  IMSY_TRY(parse_registries(reader, name, config.registries));
  IMSY_TRY(reader.refuse_others());
  return config;
}

std::vector<std::string> needs_restart(const Config& before, const Config& now) {
  std::vector<std::string> keys;
  const auto compare = [&](const char* key, const auto& one, const auto& other) {
    if (one != other) keys.emplace_back(key);
  };
  compare("containerd_address", before.containerd_address, now.containerd_address);
  compare("containerd_config", before.containerd_config, now.containerd_config);
  compare("reduce_privileges", before.reduce_privileges, now.reduce_privileges);
  compare("volatile_containers", before.volatile_containers, now.volatile_containers);
  compare("background_fill", before.background_fill, now.background_fill);
  compare("record_profiles", before.record_profiles, now.record_profiles);
  compare("docker_config", before.docker_config, now.docker_config);
  compare("hosts_dir", before.hosts_dir, now.hosts_dir);
  compare("[store] dedup_scope", before.store.dedup_scope, now.store.dedup_scope);
  compare("[fetch] connections_per_host", before.connections_per_host, now.connections_per_host);
  compare("[fetch] background_rate", before.background_rate, now.background_rate);
  compare("[credentials] kubelet_config", before.kubelet_config, now.kubelet_config);
  compare("[credentials] kubelet_bin_dir", before.kubelet_bin_dir, now.kubelet_bin_dir);
  compare("[credentials] kubeconfig", before.kubeconfig, now.kubeconfig);
  compare("[cri] image_service", before.cri_image_service, now.cri_image_service);
  compare("[metrics] address", before.metrics_address, now.metrics_address);
  return keys;
}

Result<Config> load_config(const std::filesystem::path& path, bool must_exist) {
  auto bytes = read_file(path, kFileLimit);
  if (!bytes) {
    if (bytes.error().code() == Errc::kNotFound && !must_exist) return Config();
    return bytes.error().with_context("configuration");
  }
  return parse_config(as_text(*bytes), path.string());
}

}  // namespace imsy::snapshotter
