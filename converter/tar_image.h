// The tar that a tree makes: which entries, in which order, with which headers.
//
// It is a pure function of the CDC manifest, so that whoever has the objects can make the data
// layer's tar again and compare it with the diffID. docs/format/data-layer.md.
// Of several hard links the first in the order of paths carries the content, the others are links
// to it.
// Threads: free functions and values.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "cdc/manifest.h"
#include "oci/tar/tar.h"

namespace imsy::converter {

// In which order the entries come: depth first, each directory's names sorted as bytes, a directory
// before what it holds; but some files may come before all others, after the directories that hold
// them. Those are named by their objects, since the place of objects is what a manifest tells.
class TarOrder {
 public:
  // The order of paths.
  TarOrder() = default;
  // With `objects` in front, as far as they have content and each once. Files that stand where they
  // would stand anyway are not counted as front.
  static TarOrder with_front(const cdc::Tree& tree, std::span<const std::uint32_t> objects);
  // That of a data layer.
  static TarOrder of(const cdc::Manifest& manifest);

  // The objects in front.
  const std::vector<std::uint32_t>& front() const { return front_; }

 private:
  static TarOrder of_sequence(std::vector<std::uint32_t> objects,
                              const std::vector<std::uint32_t>& ranks);
  std::vector<std::uint32_t> front_;
};

// Called for each entry in order. `object` is the content that follows the header (padded to 512
// bytes), or cdc::kNone.
using TarVisitor = std::function<Status(const oci::tar::Header& header, std::uint32_t object)>;

// Visits all entries, the root ("./") first. Stops at the visitor's first error.
Status for_each_tar_entry(const cdc::Tree& tree, const TarOrder& order, const TarVisitor& visit);

}  // namespace imsy::converter
