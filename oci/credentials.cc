#include "oci/credentials.h"

#include "common/log.h"

namespace imsy::oci {

CredentialPlaces::CredentialPlaces(std::vector<Place> places)
    : places_(std::move(places)), reasons_(places_.size()) {}

Result<std::vector<Credential>> CredentialPlaces::find(std::size_t i,
                                                       const CredentialQuery& query) const {
  auto found = places_[i]->find(query);
  const std::string reason = found ? "" : found.error().message();
  bool is_new = false;
  {
    const MutexLock lock(mu_);
    is_new = std::exchange(reasons_[i], reason) != reason;
  }
  if (!found && is_new) log::warn("a place of credentials fails: {}", reason);
  return found;
}

}  // namespace imsy::oci
