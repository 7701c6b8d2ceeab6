// An upload of a blob to a registry, in pieces that can be sent again.
// Source: OCI distribution specification v1.1, "Pushing a blob in chunks" and "monolithically".
// Internal to oci.
#pragma once

#include <memory>
#include <string>

#include "oci/call.h"
#include "oci/repository.h"

namespace imsy::oci {

// Whether the registry has the blob; a blob of another size is none.
Result<bool> find_blob(const std::shared_ptr<Caller>& caller, const std::string& name,
                       const Digest& digest, std::uint64_t size);

// Does not contact the registry before the first piece is full, or commit(): a small blob is
// uploaded in one request. One piece is under way while the next one is written. `name` is for
// messages.
std::unique_ptr<BlobWriter> open_blob_upload(std::shared_ptr<Caller> caller,
                                             const std::string& name);

}  // namespace imsy::oci
