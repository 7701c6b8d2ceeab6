// RegistrySource: a BlobSource that is one repository of a registry.
//
// Statistics of the wire are the HTTP client's.
// Threads: as BlobSource.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cas/blob_source.h"
#include "oci/registry.h"

namespace imsy::cas {

// Whose the bytes are that the registry gives now. On the HTTP client's thread; must not wait.
using TrustDomainOf = std::function<std::string(const oci::Registry&)>;

// `name`: of the place; `registry` should not be patient (oci/registry.h). Does not wait.
std::shared_ptr<BlobSource> make_registry_source(std::string name,
                                                 std::shared_ptr<oci::Registry> registry,
                                                 TrustDomainOf trust_domain);

}  // namespace imsy::cas
