// Content-Range (RFC 9110, 14.4): what was asked for, and whether an answer is exactly that.
//
// Threads: free functions on plain values.
#pragma once

#include <cstdint>
#include <string>

#include "common/result.h"
#include "oci/http.h"

namespace imsy::oci {

struct ContentRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  // > 0
  std::uint64_t total = 0;   // of the blob

  std::string to_range_header() const;   // "bytes=0-99"
  std::string to_content_range() const;  // "bytes 0-99/1000"
};

// For the headers of a 2xx answer. Right are 206 with exactly the Content-Range, or 200 when the
// whole was asked for, both without a content encoding. kInvalid
// otherwise: whatever follows would be other bytes than were asked for.
Status check_range(const HttpResponse& response, const ContentRange& wanted,
                   const std::string& what);
// kInvalid when it announces more than so many bytes. What comes unannounced can only be cut off.
Status check_announced(const HttpResponse& response, std::uint64_t length, const std::string& what);

}  // namespace imsy::oci
