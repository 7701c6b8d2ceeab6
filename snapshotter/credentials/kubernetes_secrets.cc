#include "snapshotter/credentials/kubernetes_secrets.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string_view>

#include "common/log.h"
#include "oci/auth.h"
#include "oci/base64.h"
#include "oci/json.h"
#include "oci/url.h"
#include "snapshotter/credentials/image_pattern.h"

namespace imsy::snapshotter {
namespace {

using oci::Json;

constexpr std::string_view kSecretType = "kubernetes.io/dockerconfigjson";
// A secret has a megabyte at most.
constexpr std::size_t kSecretsPerPage = 20;
constexpr std::uint64_t kPageLimit = 48u << 20;
constexpr unsigned kPagesMax = 1'000;
constexpr std::size_t kFoundMax = 64;  // more than anybody tries

struct Secret {
  std::string name_space;
  SecretLogins logins;
};

struct Page {
  std::vector<Secret> secrets;
  std::string next;  // "": this was the last one
};

Result<std::string> namespace_of(const Json& secret, const std::string& where) {
  const Json* metadata = oci::find_field(secret, "metadata");
  if (metadata == nullptr) return std::string();
  IMSY_TRY(oci::check_object(*metadata, {"namespace"}, where));
  return oci::string_field(*metadata, "namespace", where);
}

Result<Page> parse_page(std::string_view text) {
  const std::string where = "the list of secrets";
  IMSY_TRY_ASSIGN(const Json json, oci::parse_json(text, where));
  IMSY_TRY(oci::check_object(json, {"items", "metadata"}, where));
  Page page;
  if (const Json* metadata = oci::find_field(json, "metadata")) {
    IMSY_TRY(oci::check_object(*metadata, {"continue"}, where));
    IMSY_TRY_ASSIGN(page.next, oci::string_field(*metadata, "continue", where));
  }
  const Json* items = oci::find_field(json, "items");
  if (items == nullptr) return page;
  if (!items->is_array()) return Error(Errc::kInvalid, where + ".items: must be a list");
  for (const Json& item : *items) {
    if (!item.is_object() || item.value("type", Json()) != kSecretType) continue;
    const Json* data = oci::find_field(item, "data");
    const Json* encoded = data != nullptr && data->is_object()
                              ? oci::find_field(*data, ".dockerconfigjson")
                              : nullptr;
    if (encoded == nullptr || !encoded->is_string()) continue;
    // Whoever may make secrets may make bad ones; they must not hide the others.
    auto logins = parse_docker_secret(encoded->get_ref<const std::string&>());
    if (!logins) continue;
    IMSY_TRY_ASSIGN(std::string name_space, namespace_of(item, where));
    page.secrets.push_back({std::move(name_space), std::move(*logins)});
  }
  return page;
}

std::size_t size_of(const oci::Credential& one) {
  return one.username.size() + one.password.size() + one.identity_token.size() +
         one.registry_token.size();
}

}  // namespace

Result<SecretLogins> parse_docker_secret(std::string_view encoded) {
  IMSY_TRY_ASSIGN(const std::string text, oci::base64_decode(encoded));
  IMSY_TRY_ASSIGN(const Json json, oci::parse_json(text, "a secret"));
  IMSY_TRY(oci::check_object(json, {"auths"}, "a secret"));
  SecretLogins logins;
  const Json* auths = oci::find_field(json, "auths");
  if (auths == nullptr) return logins;
  if (!auths->is_object()) return Error(Errc::kInvalid, "a secret.auths: must be an object");
  for (const auto& [pattern, entry] : auths->items()) {
    if (!entry.is_object()) continue;
    auto login = oci::parse_login(entry);
    if (login && !login->empty()) logins.emplace_back(pattern, std::move(*login));
  }
  return logins;
}

Result<std::shared_ptr<KubernetesSecrets>> KubernetesSecrets::open(std::filesystem::path kubeconfig,
                                                                   Now now) {
  // Its files belong to others, and may come later: containers do not wait for them.
  if (const auto loaded = load_kubeconfig(kubeconfig); !loaded) {
    if (loaded.error().code() == Errc::kInvalid) return loaded.error();
    log::warn("secrets of Kubernetes cannot be used yet: {}", loaded.error().message());
  }
  return std::shared_ptr<KubernetesSecrets>(
      new KubernetesSecrets(std::move(kubeconfig), std::move(now)));
}

Result<std::vector<KubernetesSecrets::Login>> KubernetesSecrets::list() const {
  IMSY_TRY_ASSIGN(const KubernetesServer server, load_kubeconfig(kubeconfig_));
  const auto tls = std::make_shared<const oci::Tls>(server.tls);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  std::vector<Login> all;
  std::size_t bytes = 0;
  std::string next;
  for (unsigned pages = 0; pages < kPagesMax; ++pages) {
    oci::HttpRequest request;
    request.url = oci::with_query(server.address + "/api/v1/secrets", "fieldSelector",
                                  "type=" + std::string(kSecretType));
    request.url = oci::with_query(std::move(request.url), "limit", std::to_string(kSecretsPerPage));
    if (!next.empty()) request.url = oci::with_query(std::move(request.url), "continue", next);
    request.headers.emplace_back("Accept", "application/json");
    if (!server.token.empty()) {
      request.headers.emplace_back("Authorization", "Bearer " + server.token);
    }
    request.body_limit = kPageLimit;
    request.tls = tls;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return Error(Errc::kTimeout, "the API server takes too long");
    request.total_timeout = left;
    IMSY_TRY_ASSIGN(const oci::HttpResponse response, http_.perform(std::move(request)));
    if (response.status != 200) {
      return Error(response.status / 100 == 4 ? Errc::kDenied : Errc::kUnavailable,
                   "the API server answers " + std::to_string(response.status));
    }
    IMSY_TRY_ASSIGN(Page page, parse_page(as_text(response.body)));
    for (Secret& secret : page.secrets) {
      for (auto& [pattern, credential] : secret.logins) {
        bytes += secret.name_space.size() + pattern.size() + size_of(credential);
        if (all.size() >= kLoginsMax || bytes > kBytesMax) {
          return Error(Errc::kInvalid, "the cluster has more secrets than can be kept");
        }
        all.push_back({secret.name_space, std::move(pattern), std::move(credential)});
      }
    }
    if (page.next.empty()) return all;
    next = std::move(page.next);
  }
  return Error(Errc::kInvalid, "the list of secrets has no end");
}

Status KubernetesSecrets::refresh() const {
  const auto now = now_();
  if (asked_ && now < *asked_ + kFresh) return outcome_;
  auto logins = list();
  asked_ = now_();  // the end, so that a server that hangs is not asked all the time
  outcome_ = logins ? Status() : Status(logins.error().with_context("secrets of Kubernetes"));
  if (!logins) return outcome_;
  logins_ = std::move(*logins);
  // What says more of the path comes first.
  std::ranges::stable_sort(logins_, std::greater(), [](const Login& login) {
    return path_of_pattern(login.pattern).size();
  });
  return outcome_;
}

Result<std::vector<oci::Credential>> KubernetesSecrets::find(
    const oci::CredentialQuery& query) const {
  const MutexLock lock(refresh_mu_);
  const Status refreshed = refresh();
  std::map<std::string_view, std::size_t> turns;  // of each namespace
  std::vector<std::pair<std::size_t, const oci::Credential*>> fitting;
  for (const Login& login : logins_) {
    if (!matches_image(login.pattern, query)) continue;
    fitting.emplace_back(turns[login.name_space]++, &login.credential);
  }
  std::ranges::stable_sort(fitting, {}, [](const auto& one) { return one.first; });
  std::vector<oci::Credential> all;
  for (const auto& [turn, credential] : fitting) {
    if (all.size() == kFoundMax) break;
    if (std::ranges::find(all, *credential) == all.end()) all.push_back(*credential);
  }
  if (all.empty() && !refreshed) return refreshed.error();
  return all;
}

}  // namespace imsy::snapshotter
