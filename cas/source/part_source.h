// PartSource: a BlobSource that is any place which images are read from: a layout, an archive, a
// repository.
//
// Threads: as BlobSource. It has threads of its own, which wait for the place.
#pragma once

#include <memory>

#include "cas/blob_source.h"
#include "oci/repository.h"

namespace imsy::cas {

// `place` outlives the source. `threads`: how many may read it at once; 1 for a place that belongs
// to one thread. All that it gives is public: who can read the place can read it.
std::shared_ptr<BlobSource> make_part_source(oci::ImageSource& place, unsigned threads);

}  // namespace imsy::cas
