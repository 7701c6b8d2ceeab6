// ImageFile: the file "manifests/<64 hex>" of the store: an image's CDC manifest, with what is
// needed to read it and to find out what it is when the index is lost.
//
// Threads: free functions on plain data.
// On disk: docs/format/store.md.
#pragma once

#include <cstdint>
#include <string>

#include "common/bytes.h"
#include "common/result.h"

namespace imsy::cas {

inline constexpr std::size_t kTrustDomainLimit = 1024;

struct ImageFile {
  std::string anchor_text;
  std::string trust_domain;
  ByteSpan manifest;  // points into the file's bytes
};

// kInvalid when the anchor's text or the trust domain is longer than its limit.
Result<Bytes> write_image_file(const ImageFile& image);
// kCorrupt unless the header is one that write_image_file() writes. The manifest is not looked at.
Result<ImageFile> read_image_file(ByteSpan file);

}  // namespace imsy::cas
