// carried: the proof that what a conversion carries through as it is (attestations, images for
// other systems, artifacts) is there with everything it names.
//
// Threads: one call, one thread; waits for the network or the disk.
#pragma once

#include <cstdint>

#include "oci/repository.h"

namespace imsy::cli::image {

// Reads every manifest and every blob below `entry` of an index to its end, and says how many blobs
// there are. Foreign layers may be missing: they are kept elsewhere. kNotFound, kCorrupt: something
// is missing or damaged; kInvalid: it cannot be known what belongs to the entry. Errors name it.
Result<std::uint64_t> check_carried(oci::ImageSource& source, const oci::Descriptor& entry);

}  // namespace imsy::cli::image
