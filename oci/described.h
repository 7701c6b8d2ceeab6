// Whether a manifest is what the index that lists it says.
//
// Threads: a free function on plain values.
#pragma once

#include "oci/descriptor.h"

namespace imsy::oci {

// kCorrupt, naming which: the document that `entry` names by its digest has another size or media
// type than `entry` says.
Status check_described(const Document& document, const Descriptor& entry);

}  // namespace imsy::oci
