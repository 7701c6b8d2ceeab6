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

// The bytes that are sent at once.
inline constexpr std::uint64_t kUploadPiece = 8u << 20;

// Does not contact the registry before the first piece is full, or commit(): a small blob is looked
// for, and then uploaded in one request. One piece is under way while the next one is written.
// `name` is for messages.
std::unique_ptr<BlobWriter> open_blob_upload(std::shared_ptr<Caller> caller,
                                             const std::string& name);

// Asks the registry to take the blob over from `repository`, another one of its own. Returns
// nothing when it has; else a writer to upload the blob with, for which a registry that does not
// want to mount may have begun an upload at the same time. Only the asking is `mounter`'s, which
// calls the same repository as `caller`: it needs a right to the other repository too, and who is
// refused that keeps the right to upload.
std::unique_ptr<BlobWriter> mount_blob(std::shared_ptr<Caller> caller, Caller& mounter,
                                       const std::string& name, const Digest& digest,
                                       const std::string& repository);

}  // namespace imsy::oci
