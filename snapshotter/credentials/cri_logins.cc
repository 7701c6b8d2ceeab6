#include "snapshotter/credentials/cri_logins.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "oci/auth.h"
#include "oci/host.h"
#include "oci/reference.h"
#include "proto/cri/images.pb.h"

namespace imsy::snapshotter {
namespace {

template <typename Message>
bool parse_message(Message& message, std::string_view bytes) {
  return bytes.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max()) &&
         message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

std::string key_of(const oci::CredentialQuery& place) {
  return (oci::is_docker_hub(place.host) ? "docker.io" : place.host) + "/" + place.repository;
}

// Only the host of the address counts; a path behind it, as Docker Hub's has one, does not.
bool is_for(std::string_view address, std::string_view host) {
  if (address.empty()) return true;
  if (const std::size_t scheme = address.find("://"); scheme != std::string_view::npos) {
    address.remove_prefix(scheme + 3);
  }
  return oci::names_host(address.substr(0, address.find('/')), host);
}

// Nothing when there is nothing that could be shown to this host.
Result<std::optional<oci::Credential>> login_of(const runtime::v1::AuthConfig& auth,
                                                const std::string& host) {
  if (!is_for(auth.server_address(), host)) return std::optional<oci::Credential>();
  oci::Credential login;
  if (!auth.username().empty()) {
    login.username = auth.username();
    login.password = auth.password();
  } else if (!auth.identity_token().empty()) {
    login.identity_token = auth.identity_token();
  } else if (!auth.auth().empty()) {
    IMSY_TRY_ASSIGN(login, oci::decode_login(auth.auth()));
  } else if (!auth.registry_token().empty()) {
    login.registry_token = auth.registry_token();
  }
  if (login.empty()) return std::optional<oci::Credential>();
  return std::optional(std::move(login));
}

bool is_too_large(const oci::Credential& login) {
  return login.username.size() + login.password.size() + login.identity_token.size() +
             login.registry_token.size() >
         CriLogins::kSecretMax;
}

}  // namespace

Result<PullRequest> parse_pull_request(std::string_view bytes) {
  runtime::v1::PullImageRequest message;
  if (!parse_message(message, bytes)) return Error(Errc::kInvalid, "no PullImageRequest");
  IMSY_TRY_ASSIGN(const auto reference, oci::Reference::parse(message.image().image()));
  PullRequest request;
  request.place = {reference.host, reference.repository};
  request.image = reference.to_string();
  if (message.has_auth()) {
    IMSY_TRY_ASSIGN(request.login, login_of(message.auth(), reference.host));
  }
  if (request.login && is_too_large(*request.login)) {
    return Error(Errc::kInvalid, "the credential of a pull is too large to be kept");
  }
  return request;
}

CriLogins::Pull CriLogins::pull_began(PullRequest request) {
  const MutexLock lock(mu_);
  const Pull pull = ++clock_;
  pulls_.emplace(pull, std::move(request));
  return pull;
}

void CriLogins::pull_ended(Pull pull, std::optional<std::string_view> response) {
  std::string id;
  if (runtime::v1::PullImageResponse message; response && parse_message(message, *response)) {
    id = message.image_ref();
  }
  const MutexLock lock(mu_);
  auto node = pulls_.extract(pull);
  if (node.empty() || !response) return;
  PullRequest& request = node.mapped();
  const std::string key = key_of(request.place);
  if (!request.login) {
    repositories_.erase(key);
    return;
  }
  Repository& repository = repositories_[key];
  repository.login = std::move(request.login);
  repository.used = ++clock_;
  if (repository.images.size() >= kImagesMax) repository.images.erase(repository.images.begin());
  repository.images[request.image] = std::move(id);
  make_room();
}

void CriLogins::make_room() {
  if (repositories_.size() <= kRepositoriesMax) return;
  repositories_.erase(std::ranges::min_element(
      repositories_, {}, [](const auto& entry) { return entry.second.used; }));
}

// All names of an image go with it, whichever it is removed by.
void CriLogins::image_removed(std::string_view request) {
  runtime::v1::RemoveImageRequest message;
  if (!parse_message(message, request)) return;
  const std::string& named = message.image().image();
  const auto reference = oci::Reference::parse(named);
  const std::string name = reference ? reference->to_string() : named;
  const MutexLock lock(mu_);
  std::string id = named;
  for (const auto& [key, repository] : repositories_) {
    const auto found = repository.images.find(name);
    if (found != repository.images.end() && !found->second.empty()) id = found->second;
  }
  for (auto& [key, repository] : repositories_) {
    std::erase_if(repository.images,
                  [&](const auto& image) { return image.first == name || image.second == id; });
  }
  std::erase_if(repositories_, [](const auto& entry) { return entry.second.images.empty(); });
}

Result<std::vector<oci::Credential>> CriLogins::find(const oci::CredentialQuery& query) const {
  const std::string wanted = key_of(query);
  std::vector<oci::Credential> all;
  const MutexLock lock(mu_);
  for (auto pull = pulls_.rbegin(); pull != pulls_.rend(); ++pull) {
    const PullRequest& request = pull->second;
    if (request.login && key_of(request.place) == wanted) all.push_back(*request.login);
  }
  if (const auto known = repositories_.find(wanted); known != repositories_.end()) {
    if (known->second.login) all.push_back(*known->second.login);
  }
  return all;
}

std::size_t CriLogins::size() const {
  const MutexLock lock(mu_);
  return repositories_.size();
}

}  // namespace imsy::snapshotter
