// Base64 (RFC 4648, section 4): embedded descriptor data and basic credentials.
// Threads: free functions.
#pragma once

#include <string>
#include <string_view>

#include "common/bytes.h"
#include "common/result.h"

namespace imsy::oci {

std::string base64_encode(ByteSpan data);
// Strict: standard alphabet, padding, no white space, unused bits zero. kInvalid otherwise; the
// message does not quote the text.
Result<std::string> base64_decode(std::string_view text);

}  // namespace imsy::oci
