#include "snapshotter/credentials/kubeconfig.h"

#include <algorithm>

#include "common/io.h"
#include "oci/base64.h"
#include "oci/json.h"
#include "oci/url.h"
#include "snapshotter/credentials/yaml.h"

namespace imsy::snapshotter {
namespace {

using oci::Json;

constexpr std::uint64_t kKubeconfigLimit = 4u << 20;
constexpr std::uint64_t kSecretFileLimit = 1u << 20;
constexpr std::size_t kTokenMax = 32u << 10;

Error wrong(std::string_view where, std::string_view key, std::string_view what) {
  return Error(Errc::kInvalid, oci::field_path(where, key) + ": " + std::string(what));
}

// The object `inner` of the element with this name in the list `key`.
Result<Json> find_named(const Json& config, const std::string& key, const std::string& inner,
                        const std::string& name, std::string_view where) {
  const Json* list = oci::find_field(config, key);
  if (list == nullptr || !list->is_array()) return wrong(where, key, "must be a list");
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string at = oci::element_path(where, key, i);
    IMSY_TRY(oci::check_object((*list)[i], {"name", inner}, at));
    IMSY_TRY_ASSIGN(const std::string named, oci::string_field((*list)[i], "name", at));
    if (named != name) continue;
    const Json* found = oci::find_field((*list)[i], inner);
    if (found == nullptr || !found->is_object()) return wrong(at, inner, "must be a mapping");
    return *found;
  }
  return wrong(where, key, "has none of the name that the current context gives");
}

// "<key>-data" in base64, or the file that "<key>" names.
Result<InlineOrFile> read_pem(const Json& json, const std::string& key, std::string_view where) {
  InlineOrFile pem;
  IMSY_TRY_ASSIGN(const std::string data, oci::string_field(json, key + "-data", where));
  if (!data.empty()) {
    const auto decoded = oci::base64_decode(data);
    if (!decoded) return wrong(where, key + "-data", "is not in base64");
    pem.value = *decoded;
    return pem;
  }
  IMSY_TRY_ASSIGN(pem.file, oci::string_field(json, key, where));
  return pem;
}

Status refuse(const Json& json, std::initializer_list<std::string_view> keys,
              std::string_view where) {
  for (const std::string_view key : keys) {
    const Json* field = oci::find_field(json, key);
    if (field != nullptr && *field != "false" && *field != "") {
      return wrong(where, key, "is not understood here");
    }
  }
  return {};
}

Result<std::string> value_of(const InlineOrFile& one, const std::filesystem::path& base) {
  if (one.file.empty()) return one.value;
  IMSY_TRY_ASSIGN(const Bytes bytes, read_file(base / one.file, kSecretFileLimit));
  return std::string(as_text(bytes));
}

}  // namespace

Result<Kubeconfig> parse_kubeconfig(std::string_view text, std::string_view name) {
  IMSY_TRY_ASSIGN(const Json json, parse_yaml(text, name));
  IMSY_TRY(oci::check_object(json, {"current-context", "clusters", "users", "contexts"}, name));
  IMSY_TRY_ASSIGN(const std::string current, oci::required_string(json, "current-context", name));
  IMSY_TRY_ASSIGN(const Json context, find_named(json, "contexts", "context", current, name));
  IMSY_TRY_ASSIGN(const std::string cluster_name,
                  oci::required_string(context, "cluster", "context"));
  IMSY_TRY_ASSIGN(const std::string user_name, oci::required_string(context, "user", "context"));
  IMSY_TRY_ASSIGN(const Json cluster, find_named(json, "clusters", "cluster", cluster_name, name));
  IMSY_TRY_ASSIGN(const Json user, find_named(json, "users", "user", user_name, name));
  IMSY_TRY(
      refuse(cluster, {"insecure-skip-tls-verify", "tls-server-name", "proxy-url"}, "cluster"));
  IMSY_TRY(refuse(user, {"exec", "auth-provider", "username", "password", "as"}, "user"));
  Kubeconfig config;
  IMSY_TRY_ASSIGN(config.server, oci::required_string(cluster, "server", "cluster"));
  while (config.server.ends_with('/')) config.server.pop_back();
  const auto url = oci::parse_url(config.server);
  if (!url || url->scheme != "https" || config.server.find_first_of("?#") != std::string::npos) {
    return wrong("cluster", "server", "must be the https address of an API server");
  }
  IMSY_TRY_ASSIGN(config.authority, read_pem(cluster, "certificate-authority", "cluster"));
  IMSY_TRY_ASSIGN(config.certificate, read_pem(user, "client-certificate", "user"));
  IMSY_TRY_ASSIGN(config.key, read_pem(user, "client-key", "user"));
  IMSY_TRY_ASSIGN(config.token.value, oci::string_field(user, "token", "user"));
  // The file is the newer of the two, as it is renewed.
  IMSY_TRY_ASSIGN(config.token.file, oci::string_field(user, "tokenFile", "user"));
  return config;
}

Result<KubernetesServer> load_kubeconfig(const std::filesystem::path& path) {
  IMSY_TRY_ASSIGN(const Bytes text, read_file(path, kKubeconfigLimit));
  IMSY_TRY_ASSIGN(const Kubeconfig config, parse_kubeconfig(as_text(text), path.string()));
  const auto base = path.parent_path();
  KubernetesServer server;
  server.address = config.server;
  IMSY_TRY_ASSIGN(server.tls.authorities, value_of(config.authority, base));
  IMSY_TRY_ASSIGN(server.tls.certificate, value_of(config.certificate, base));
  IMSY_TRY_ASSIGN(server.tls.key, value_of(config.key, base));
  IMSY_TRY_ASSIGN(server.token, value_of(config.token, base));
  while (server.token.ends_with('\n')) server.token.pop_back();
  const bool printable =
      std::ranges::all_of(server.token, [](char c) { return c > ' ' && c <= '~'; });
  if (server.token.size() > kTokenMax || !printable) {
    return wrong(path.string(), "token", "is not usable");
  }
  return server;
}

}  // namespace imsy::snapshotter
