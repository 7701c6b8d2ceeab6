// Fetching a CDC manifest from a registry, checked against the anchor that names it.
//
// Threads: free functions, any thread but the HTTP client's. They wait for the network, until their
//   deadline or until a stop is requested.
#pragma once

#include <chrono>
#include <stop_token>

#include "cdc/manifest_fetch.h"
#include "oci/registry.h"

namespace imsy::snapshotter {

// One range of a blob, unverified. kTimeout at `deadline`, kCancelled on `stop`, else as
// oci::Registry::read_range; what arrives after that is dropped.
Result<Bytes> read_range(oci::Registry& registry, const Digest& blob, std::uint64_t blob_size,
                         std::uint64_t offset, std::uint64_t length, oci::Purpose purpose,
                         std::chrono::steady_clock::time_point deadline,
                         const std::stop_token& stop);

// Returns then, or when a stop is requested.
void wait_until(std::chrono::steady_clock::time_point then, const std::stop_token& stop);

// The manifest that `anchor` names. Errors of read_range and of cdc::fetch_manifest.
Result<cdc::FetchedManifest> fetch_manifest(oci::Registry& registry, const cdc::Anchor& anchor,
                                            std::chrono::steady_clock::time_point deadline,
                                            const std::stop_token& stop);

}  // namespace imsy::snapshotter
