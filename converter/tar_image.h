// The tar that a tree makes: which entries, in which order, with which headers.
//
// It is a pure function of the CDC manifest's tree, so that whoever has the objects can make the
// data layer's tar again and compare it with the diffID. docs/format/data-layer.md.
// Order: depth first, each directory's names sorted as bytes, a directory before what it holds.
// Of several hard links the first in this order carries the content, the others are links to it.
// Threads: free functions on immutable data.
#pragma once

#include <functional>

#include "cdc/manifest.h"
#include "oci/tar/tar.h"

namespace imsy::converter {

// Called for each entry in order. `object` is the content that follows the header (padded to 512
// bytes), or cdc::kNone.
using TarVisitor = std::function<Status(const oci::tar::Header& header, std::uint32_t object)>;

// Visits all entries, the root ("./") first. Stops at the visitor's first error.
Status for_each_tar_entry(const cdc::Tree& tree, const TarVisitor& visit);

}  // namespace imsy::converter
