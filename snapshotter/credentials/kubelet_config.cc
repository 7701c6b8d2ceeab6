#include "snapshotter/credentials/kubelet_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "oci/json.h"
#include "snapshotter/credentials/yaml.h"

namespace imsy::snapshotter {
namespace {

using oci::Json;

constexpr std::size_t kPluginsMax = 64;
constexpr std::array<std::string_view, 2> kPluginVersions = {
    "credentialprovider.kubelet.k8s.io/v1", "credentialprovider.kubelet.k8s.io/v1beta1"};
// Longer than any credential lives.
constexpr std::chrono::hours kDurationMax{24 * 365};

Error invalid(std::string_view where, std::string_view key, std::string_view what) {
  return Error(Errc::kInvalid, oci::field_path(where, key) + ": " + std::string(what));
}

// The name of a file in a directory, and not of anything else.
bool is_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/ \0", 3)) == std::string::npos;
}

bool is_variable(const std::string& name, const std::string& value) {
  return !name.empty() && name.find_first_of(std::string_view("=\0", 2)) == std::string::npos &&
         value.find('\0') == std::string::npos;
}

Status check_kind(const Json& json, std::string_view kind, std::string_view where) {
  IMSY_TRY_ASSIGN(const std::string named, oci::required_string(json, "kind", where));
  if (named == kind) return {};
  return invalid(where, "kind", "must be " + std::string(kind));
}

Status parse_environment(const Json& provider, const std::string& where, KubeletPlugin& plugin) {
  const Json* env = oci::find_field(provider, "env");
  if (env == nullptr) return {};
  if (!env->is_array()) return invalid(where, "env", "must be a list");
  for (std::size_t i = 0; i < env->size(); ++i) {
    const std::string at = oci::element_path(where, "env", i);
    IMSY_TRY(oci::check_object((*env)[i], {"name", "value"}, at));
    IMSY_TRY_ASSIGN(std::string name, oci::required_string((*env)[i], "name", at));
    IMSY_TRY_ASSIGN(std::string value, oci::string_field((*env)[i], "value", at));
    if (!is_variable(name, value)) return invalid(at, "name", "is not that of a variable");
    plugin.environment.emplace_back(std::move(name), std::move(value));
  }
  return {};
}

Result<KubeletPlugin> parse_provider(const Json& json, const std::string& where) {
  IMSY_TRY(oci::check_object(json,
                             {"name", "matchImages", "defaultCacheDuration", "apiVersion", "args",
                              "env", "tokenAttributes"},
                             where));
  KubeletPlugin plugin;
  IMSY_TRY_ASSIGN(plugin.name, oci::required_string(json, "name", where));
  if (!is_file_name(plugin.name)) return invalid(where, "name", "must be the name of a program");
  IMSY_TRY_ASSIGN(plugin.api_version, oci::required_string(json, "apiVersion", where));
  if (std::ranges::find(kPluginVersions, plugin.api_version) == kPluginVersions.end()) {
    return invalid(where, "apiVersion", "must be credentialprovider.kubelet.k8s.io/v1 or v1beta1");
  }
  IMSY_TRY_ASSIGN(plugin.match_images, oci::string_list_field(json, "matchImages", where));
  if (plugin.match_images.empty()) return invalid(where, "matchImages", "must not be empty");
  IMSY_TRY_ASSIGN(const std::string duration,
                  oci::required_string(json, "defaultCacheDuration", where));
  const auto parsed = parse_go_duration(duration);
  if (!parsed) return invalid(where, "defaultCacheDuration", parsed.error().message());
  plugin.cache_duration = *parsed;
  IMSY_TRY_ASSIGN(plugin.arguments, oci::string_list_field(json, "args", where));
  for (const std::string& argument : plugin.arguments) {
    if (argument.find('\0') != std::string::npos) return invalid(where, "args", "has a zero byte");
  }
  IMSY_TRY(parse_environment(json, where, plugin));
  if (oci::find_field(json, "tokenAttributes") != nullptr) {
    return invalid(where, "tokenAttributes",
                   "wants the token of a pod's service account; the snapshotter pulls for no pod");
  }
  return plugin;
}

Result<oci::Credential> parse_plugin_login(const Json& json, const std::string& where) {
  IMSY_TRY(oci::check_object(json, {"username", "password"}, where));
  oci::Credential login;
  IMSY_TRY_ASSIGN(login.username, oci::string_field(json, "username", where));
  IMSY_TRY_ASSIGN(login.password, oci::string_field(json, "password", where));
  return login;
}

}  // namespace

Result<std::chrono::seconds> parse_go_duration(std::string_view text) {
  const Error error(Errc::kInvalid, "must be like 12h, 1h30m, 10s or 0s");
  if (text == "0") return std::chrono::seconds(0);
  if (text.empty()) return error;
  std::chrono::milliseconds sum{0};
  while (!text.empty()) {
    std::uint32_t number = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (problem != std::errc()) return error;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    std::size_t unit = 1;
    if (text.starts_with("ms")) {
      sum += std::chrono::milliseconds(number);
      unit = 2;
    } else if (text.starts_with('h')) {
      sum += std::chrono::hours(number);
    } else if (text.starts_with('m')) {
      sum += std::chrono::minutes(number);
    } else if (text.starts_with('s')) {
      sum += std::chrono::seconds(number);
    } else {
      return error;
    }
    text.remove_prefix(unit);
    if (sum > kDurationMax) return Error(Errc::kInvalid, "must be less than a year");
  }
  return std::chrono::duration_cast<std::chrono::seconds>(sum);
}

Result<std::vector<KubeletPlugin>> parse_kubelet_config(std::string_view text,
                                                        std::string_view name) {
  IMSY_TRY_ASSIGN(const Json json, parse_yaml(text, name));
  IMSY_TRY(oci::check_object(json, {"kind", "apiVersion", "providers"}, name));
  IMSY_TRY(check_kind(json, "CredentialProviderConfig", name));
  IMSY_TRY_ASSIGN(const std::string version, oci::required_string(json, "apiVersion", name));
  if (!version.starts_with("kubelet.config.k8s.io/v1")) {
    return invalid(name, "apiVersion", "must be kubelet.config.k8s.io/v1");
  }
  const Json* providers = oci::find_field(json, "providers");
  if (providers == nullptr || !providers->is_array() || providers->empty() ||
      providers->size() > kPluginsMax) {
    return invalid(name, "providers", "must be a list of 1 to 64");
  }
  std::vector<KubeletPlugin> plugins;
  for (std::size_t i = 0; i < providers->size(); ++i) {
    IMSY_TRY_ASSIGN(auto plugin,
                    parse_provider((*providers)[i], oci::element_path(name, "providers", i)));
    plugins.push_back(std::move(plugin));
  }
  return plugins;
}

Result<PluginAnswer> parse_plugin_answer(std::string_view text, const KubeletPlugin& plugin) {
  const std::string where = "the answer of " + plugin.name;
  IMSY_TRY_ASSIGN(const Json json, oci::parse_json(text, where));
  IMSY_TRY(oci::check_object(json, {"kind", "apiVersion", "cacheKeyType", "cacheDuration", "auth"},
                             where));
  IMSY_TRY(check_kind(json, "CredentialProviderResponse", where));
  IMSY_TRY_ASSIGN(const std::string version, oci::required_string(json, "apiVersion", where));
  if (version != plugin.api_version) {
    return invalid(where, "apiVersion", "is not the one that was asked for");
  }
  PluginAnswer answer;
  answer.cache_duration = plugin.cache_duration;
  IMSY_TRY_ASSIGN(const std::string type, oci::required_string(json, "cacheKeyType", where));
  if (type == "Registry") {
    answer.cached_for = PluginAnswer::For::kRegistry;
  } else if (type == "Global") {
    answer.cached_for = PluginAnswer::For::kGlobal;
  } else if (type != "Image") {
    return invalid(where, "cacheKeyType", "must be Image, Registry or Global");
  }
  IMSY_TRY_ASSIGN(const std::string duration, oci::string_field(json, "cacheDuration", where));
  if (!duration.empty()) {
    const auto parsed = parse_go_duration(duration);
    if (!parsed) return invalid(where, "cacheDuration", parsed.error().message());
    answer.cache_duration = *parsed;
  }
  const Json* auth = oci::find_field(json, "auth");
  if (auth == nullptr) return answer;
  if (!auth->is_object() || auth->size() > kPluginLoginsMax) {
    return invalid(where, "auth", "must be an object of at most 256");
  }
  for (const auto& [pattern, login] : auth->items()) {
    IMSY_TRY_ASSIGN(auto parsed, parse_plugin_login(login, oci::field_path(where, "auth")));
    if (!parsed.empty()) answer.logins.emplace(pattern, std::move(parsed));
  }
  return answer;
}

}  // namespace imsy::snapshotter
