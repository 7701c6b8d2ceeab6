// Carrier: copies manifests and indexes as they are, with everything they name.
//
// For what stands in an index beside the images that are converted: attestations, artifacts, images
// of systems that imsy is not made for, other indexes.
// Threads: one. Waits for network and disk.
#pragma once

#include <set>

#include "converter/transfer.h"
#include "oci/repository.h"

namespace imsy::converter {

class Carrier {
 public:
  Carrier(oci::ImageSource& from, oci::ImageTarget& to) : from_(from), to_(to) {}

  // Everything below the entry is in the target afterwards. kNotFound: the source lacks a part of
  // it; kInvalid: nobody knows what belongs to it, or the target refuses it.
  Status copy(const oci::Descriptor& entry) { return copy(entry, 0); }

  const Transfers& transfers() const { return transfers_; }

 private:
  Status copy(const oci::Descriptor& entry, unsigned depth);
  Status copy_blobs(const oci::Manifest& manifest);

  oci::ImageSource& from_;
  oci::ImageTarget& to_;
  std::set<Digest> copied_;
  Transfers transfers_;
};

}  // namespace imsy::converter
