#include "snapshotter/credentials/kubernetes_secrets.h"

#include <algorithm>
#include <optional>

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

struct Page {
  SecretLogins logins;
  std::string next;  // "": this was the last one
};

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
    std::ranges::move(*logins, std::back_inserter(page.logins));
  }
  return page;
}

std::size_t size_of(const std::pair<std::string, oci::Credential>& login) {
  const oci::Credential& one = login.second;
  return login.first.size() + one.username.size() + one.password.size() +
         one.identity_token.size() + one.registry_token.size();
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

Result<SecretLogins> KubernetesSecrets::list() const {
  IMSY_TRY_ASSIGN(const KubernetesServer server, load_kubeconfig(kubeconfig_));
  const auto tls = std::make_shared<const oci::Tls>(server.tls);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  SecretLogins all;
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
    for (auto& login : page.logins) {
      bytes += size_of(login);
      if (all.size() >= kLoginsMax || bytes > kBytesMax) {
        return Error(Errc::kInvalid, "the cluster has more secrets than can be kept");
      }
      all.push_back(std::move(login));
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
  std::ranges::stable_sort(logins_, [](const auto& a, const auto& b) {
    return path_of_pattern(a.first).size() > path_of_pattern(b.first).size();
  });
  return outcome_;
}

Result<std::vector<oci::Credential>> KubernetesSecrets::find(
    const oci::CredentialQuery& query) const {
  const MutexLock lock(refresh_mu_);
  const Status refreshed = refresh();
  std::vector<oci::Credential> all;
  for (const auto& [pattern, login] : logins_) {
    if (!matches_image(pattern, query)) continue;
    if (std::ranges::find(all, login) == all.end()) all.push_back(login);
  }
  if (all.empty() && !refreshed) return refreshed.error();
  return all;
}

}  // namespace imsy::snapshotter
