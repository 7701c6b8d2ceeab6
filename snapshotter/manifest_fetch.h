// Fetching a CDC manifest from a registry, checked against the anchor that names it.
//
// Threads: free functions, any thread but the HTTP client's. They wait for the network, until their
//   deadline or until a stop is requested.
#pragma once

#include <chrono>
#include <memory>
#include <stop_token>

#include "cdc/manifest.h"
#include "oci/registry.h"

namespace imsy::snapshotter {

// One range of a blob, unverified. kTimeout at `deadline`, kCancelled on `stop`, else as
// oci::Registry::read_range; what arrives after that is dropped.
Result<Bytes> read_range(oci::Registry& registry, const Digest& blob, std::uint64_t blob_size,
                         std::uint64_t offset, std::uint64_t length,
                         std::chrono::steady_clock::time_point deadline,
                         const std::stop_token& stop);

struct FetchedManifest {
  Bytes bytes;
  std::shared_ptr<const cdc::Manifest> manifest;
};

// The manifest that `anchor` names: in one request when it is small; else the header first, so that
// a large wrong answer is not fetched. Errors of read_range; kCorrupt, kInvalid as
// cdc::Manifest::read.
Result<FetchedManifest> fetch_manifest(oci::Registry& registry, const cdc::Anchor& anchor,
                                       std::chrono::steady_clock::time_point deadline,
                                       const std::stop_token& stop);

}  // namespace imsy::snapshotter
