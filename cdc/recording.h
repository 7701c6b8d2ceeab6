// Recording: which chunks of an image were read first, as a node writes it down meanwhile.
//
// A text that only grows: one line per chunk, with its index among all chunks of the image. Who is
// cut off while writing leaves at most a last line without its end. On disk:
// docs/format/profile.md. Threads: free functions, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cdc/manifest.h"
#include "cdc/profile.h"
#include "common/result.h"

namespace imsy::cdc {

// Appends the line of one chunk.
void append_access(std::string& recording, std::uint32_t chunk);

// The recording of an image as a profile: chunk by chunk, content with several paths under the
// first one in tree order. kInvalid, with the number of the line, for a text that cannot be a
// recording of this image, or exceeds a profile's limits.
Result<Profile> profile_of(std::string_view recording, const Manifest& manifest);

}  // namespace imsy::cdc
