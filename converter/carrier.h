// Carrier: copies manifests and indexes as they are, with everything they name.
//
// For what stands in an index beside the images that are converted: attestations, artifacts, images
// of systems that imsy is not made for, other indexes.
// Threads: one. Waits for network and disk.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "converter/transfer.h"
#include "oci/repository.h"

namespace imsy::converter {

class Carrier {
 public:
  Carrier(oci::ImageSource& from, oci::ImageTarget& to) : from_(from), to_(to) {}

  // Why the entry cannot be in the target, in words: the source lacks a part of it, nobody knows
  // what belongs to it, or the target takes no such manifest. Nothing: it is there now, with
  // everything below it. Errors are those of the two places.
  using Obstacle = std::optional<std::string>;
  Result<Obstacle> copy(const oci::Descriptor& entry) { return copy(entry, 0); }

  const Transfers& transfers() const { return transfers_; }

 private:
  Result<Obstacle> copy(const oci::Descriptor& entry, unsigned depth);
  Result<Obstacle> copy_below(const oci::Document& document, unsigned depth);
  Result<Obstacle> copy_blobs(const oci::Manifest& manifest);
  Result<oci::Arrival> copy_blob(const oci::Descriptor& blob);

  oci::ImageSource& from_;
  oci::ImageTarget& to_;
  std::set<Digest> copied_;
  Transfers transfers_;
};

}  // namespace imsy::converter
