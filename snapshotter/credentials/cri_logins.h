// CriLogins: the credentials that the kubelet sends with its pulls.
//
// Promises
//   * They are in memory only, and belong to one repository at one registry.
//   * The credential of a pull that is under way is found first. It stays when the pull succeeds,
//     in place of the one before it, and is dropped when the pull fails: a wrong one replaces
//     nothing.
//   * A pull without one that succeeds shows that none is needed: what was kept is forgotten.
//   * It is forgotten when the last image of its repository is removed.
//   * At most kRepositoriesMax repositories and kSecretMax bytes for each; beyond that the one that
//     was used longest ago is forgotten.
// Threads: all methods from any thread; none waits.
// Source: cri-api runtime/v1, containerd internal/cri/server/images (whose host a login is for).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/mutex.h"
#include "oci/credentials.h"

namespace imsy::snapshotter {

// What a PullImageRequest says, as far as it concerns us.
struct PullRequest {
  oci::CredentialQuery place;
  std::string image;  // the whole reference, normalised
  std::optional<oci::Credential> login;
};
// kInvalid: it is no such message, or names no image. No message quotes it.
Result<PullRequest> parse_pull_request(std::string_view bytes);

class CriLogins final : public oci::Credentials {
 public:
  static constexpr std::size_t kRepositoriesMax = 512;
  static constexpr std::size_t kImagesMax = 128;  // of one repository
  static constexpr std::size_t kSecretMax = 64u << 10;

  using Pull = std::uint64_t;
  Pull pull_began(PullRequest request);
  // `response`: the bytes of a PullImageResponse; nullopt when it failed.
  void pull_ended(Pull pull, std::optional<std::string_view> response);
  // `request`: the bytes of a RemoveImageRequest that was carried out.
  void image_removed(std::string_view request);

  Result<std::vector<oci::Credential>> find(const oci::CredentialQuery& query) const override;

  // Repositories that something is known of.
  std::size_t size() const;

 private:
  struct Repository {
    std::optional<oci::Credential> login;       // of the last pull that succeeded
    std::map<std::string, std::string> images;  // reference -> ID
    std::uint64_t used = 0;
  };
  void make_room() IMSY_REQUIRES(mu_);

  mutable Mutex mu_;
  std::uint64_t clock_ IMSY_GUARDED_BY(mu_) = 0;
  std::map<Pull, PullRequest> pulls_ IMSY_GUARDED_BY(mu_);                       // under way
  mutable std::map<std::string, Repository> repositories_ IMSY_GUARDED_BY(mu_);  // by host/name
};

}  // namespace imsy::snapshotter
