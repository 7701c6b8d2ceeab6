#include "oci/credentials.h"

#include <optional>

#include "common/log.h"

namespace imsy::oci {

CredentialChain::CredentialChain(std::vector<Place> places)
    : places_(std::move(places)), reasons_(places_.size()) {}

Result<std::vector<Credential>> CredentialChain::find(const CredentialQuery& query) const {
  std::vector<Credential> all;
  std::optional<Error> failure;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    auto found = places_[i]->find(query);
    const std::string reason = found ? "" : found.error().message();
    bool is_new = false;
    {
      const MutexLock lock(mu_);
      is_new = std::exchange(reasons_[i], reason) != reason;
    }
    if (!found) {
      if (is_new) log::warn("a place of credentials fails: {}", reason);
      failure = found.error();
      continue;
    }
    for (Credential& one : *found) all.push_back(std::move(one));
  }
  if (all.empty() && failure) return *failure;
  return all;
}

}  // namespace imsy::oci
