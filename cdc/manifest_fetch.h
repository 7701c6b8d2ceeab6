// Fetching a CDC manifest from the blob that holds it, checked against the anchor that names it.
//
// Threads: free function; waits as `read` does.
#pragma once

#include <functional>
#include <memory>

#include "cdc/manifest.h"

namespace imsy::cdc {

struct FetchedManifest {
  Bytes bytes;
  std::shared_ptr<const Manifest> manifest;
};

// Gets exactly `length` bytes at `offset` of the blob, unverified.
using ReadBlob = std::function<Result<Bytes>(std::uint64_t offset, std::uint64_t length)>;

// The manifest that `anchor` names: in one piece when it is small; else the header first, so that
// a large wrong answer is not fetched. Errors of `read`; kCorrupt, kInvalid as Manifest::read, and
// kInvalid above 512 MiB.
Result<FetchedManifest> fetch_manifest(const Anchor& anchor, const ReadBlob& read);

}  // namespace imsy::cdc
