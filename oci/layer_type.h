// Media types of layers: what they say about a layer before its first byte is read.
//
// Source: OCI image-spec v1.1.0, layer.md; Docker image manifest version 2 schema 2.
// Threads: free functions.
#pragma once

#include <optional>
#include <string_view>

#include "oci/decompress.h"
#include "oci/descriptor.h"

namespace imsy::oci {

// The OCI media type of a layer that is compressed in this way.
std::string_view layer_type(Compression compression);

// How a layer of this OCI or Docker media type should be compressed; nothing for a type that is no
// tar layer (encrypted ones, other formats, artifacts).
std::optional<Compression> promised_compression(std::string_view media_type);

// Whether content of compression `found` may stand under `media_type`, where containerd and Docker
// look at the content too and so read it all the same. Only an OCI type without a suffix is taken
// at its word: content that is compressed would be unpacked as it stands.
bool tolerates(std::string_view media_type, Compression found);

}  // namespace imsy::oci
