// RegistrySource: a BlobSource that asks one or several registry repositories, in order.
//
// A repository that fails makes the next one be tried; the one that worked last is tried first.
// When all fail, the answer is the first failure that may go away (kUnavailable, kTimeout), else
// the first one. Statistics of the wire are the HTTP client's.
// Threads: as BlobSource.
#pragma once

#include <memory>
#include <vector>

#include "cas/blob_source.h"
#include "oci/registry.h"

namespace imsy::cas {

// Without repositories every read is answered with kUnavailable, at once.
std::shared_ptr<BlobSource> make_registry_source(
    std::vector<std::shared_ptr<oci::Registry>> repositories);

}  // namespace imsy::cas
