// export: a converted image as a plain one, which knows nothing of imsy.
//
// Each data layer (imsy-convert writes one) becomes an ordinary layer with the same tar; the anchor
// layer, our annotations and the artifact are left out, configuration and history are rewritten.
// The same image and compression give the same bytes.
// Threads: one call, one thread; waits for the network and the disk.
#pragma once

#include "cli/image/place.h"

namespace imsy::cli::image {

enum class LayerCompression { kZstd, kGzip, kNone };

// Writes what `from` names to `to`, under the tag of `location` or "latest"; an index stays an
// index of the images for `platform` ("": all), without Place::others(). Every frame's decoding and
// the diffIDs are checked; nothing is tagged before everything is there. Returns the digest of what
// the tag names.
Result<Digest> export_image(const Place& from, oci::ImageTarget& to,
                            const converter::Location& location, const std::string& platform,
                            LayerCompression compression);

}  // namespace imsy::cli::image
