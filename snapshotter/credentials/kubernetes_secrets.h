// KubernetesSecrets: credentials from the secrets of a cluster, of type
// kubernetes.io/dockerconfigjson, in all namespaces.
//
// Promises
//   * They are listed when a login is needed and the list is older than a minute; never otherwise.
//     What was known before holds while the API server is away.
//   * In memory only, at most kLoginsMax logins and kBytesMax bytes of secrets. A secret that
//     cannot be understood is passed over.
//   * Configuration, certificates and tokens are read anew for each list, so that they may be
//     renewed. The API server is spoken to by https only.
//   * The namespaces take turns: whoever may make secrets in one of them cannot put more than one
//     of his before each of the others'.
// Threads: all methods from any thread. find() waits for the API server, at most kPatience.
// Source: Kubernetes API v1, list Secret; docker config.json.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "oci/credentials.h"
#include "oci/http.h"
#include "snapshotter/credentials/kubeconfig.h"

namespace imsy::snapshotter {

// The logins of one secret, by the pattern that stands before each (image_pattern.h). `encoded`:
// the value of its key ".dockerconfigjson". kInvalid, in words that quote nothing.
using SecretLogins = std::vector<std::pair<std::string, oci::Credential>>;
Result<SecretLogins> parse_docker_secret(std::string_view encoded);

class KubernetesSecrets final : public oci::Credentials {
 public:
  using Clock = std::chrono::steady_clock;
  using Now = std::function<Clock::time_point()>;

  static constexpr std::chrono::seconds kFresh{60};
  static constexpr std::chrono::seconds kPatience{5};
  static constexpr std::size_t kLoginsMax = 20'000;
  static constexpr std::size_t kBytesMax = 32u << 20;

  // kInvalid: not a kubeconfig that can be used. One that cannot be read yet is no error; the API
  // server is not asked yet.
  static Result<std::shared_ptr<KubernetesSecrets>> open(std::filesystem::path kubeconfig,
                                                         Now now = &Clock::now);

  Result<std::vector<oci::Credential>> find(const oci::CredentialQuery& query) const override;

 private:
  struct Login {
    std::string name_space;
    std::string pattern;
    oci::Credential credential;
  };

  KubernetesSecrets(std::filesystem::path kubeconfig, Now now)
      : kubeconfig_(std::move(kubeconfig)), now_(std::move(now)) {}

  Status refresh() const IMSY_REQUIRES(refresh_mu_);
  Result<std::vector<Login>> list() const IMSY_REQUIRES(refresh_mu_);

  const std::filesystem::path kubeconfig_;
  const Now now_;
  mutable oci::HttpClient http_;

  mutable Mutex refresh_mu_;  // held while the API server is asked
  mutable std::optional<Clock::time_point> asked_ IMSY_GUARDED_BY(refresh_mu_);
  mutable Status outcome_ IMSY_GUARDED_BY(refresh_mu_);
  mutable std::vector<Login> logins_ IMSY_GUARDED_BY(refresh_mu_);
};

}  // namespace imsy::snapshotter
