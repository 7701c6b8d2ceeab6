// IndexRewriter: makes the index of the converted images from the original's.
//
// What an entry says of its image (platform, annotations, fields that nobody here knows) stays, and
// so do the entries' order and the index's annotations. An attestation of an image refers to what
// that image has become. docs/format/image.md.
// Threads: one.
#pragma once

#include <map>
#include <vector>

#include "oci/descriptor.h"

namespace imsy::converter {

class IndexRewriter {
 public:
  // kInvalid: not an index.
  static Result<IndexRewriter> open(const oci::Document& original);

  const std::vector<oci::Descriptor>& entries() const { return entries_; }

  // From now on the entry names this manifest.
  void convert(std::size_t entry, const oci::Descriptor& converted);
  // The entry stays. One about which nothing is said is left out.
  void carry(std::size_t entry) { fates_[entry] = Fate::kCarried; }

  bool is_converted(std::size_t entry) const { return fates_[entry] == Fate::kConverted; }
  // Whether the entry says of itself that it is about another manifest, as attestations do.
  bool is_attestation(std::size_t entry) const;
  // Whether that manifest has been converted.
  bool attests_converted(std::size_t entry) const;

  oci::Document finish() const;

 private:
  enum class Fate { kLeftOut, kCarried, kConverted };

  IndexRewriter() = default;

  oci::Json original_;
  std::vector<oci::Descriptor> entries_;
  std::vector<Fate> fates_;
  std::map<Digest, oci::Descriptor> converted_;  // by the original's digest
};

}  // namespace imsy::converter
