// BaseImages: what the nodes that are to be upgraded hold already: other converted images.
//
// Only documents are fetched: manifests and CDC manifests, no content.
// Threads: belongs to one thread; add() waits for the network or the disk.
#pragma once

#include <unordered_set>
#include <vector>

#include "cdc/manifest.h"
#include "oci/repository.h"

namespace imsy::converter {

class BaseImages {
 public:
  // Adds what `object` (a tag or a digest) names in `source`: an image, or all images of an index.
  // kFailedPrecondition: an image is not converted. kInvalid: an index without images. Else errors
  // as open_converted().
  Status add(oci::ImageSource& source, const std::string& object);

  const std::unordered_set<cdc::ChunkDigest>& chunks() const { return chunks_; }
  // Digests of the CDC manifests, sorted, each once: the same images give the same list.
  std::vector<Digest> manifests() const;

 private:
  Status add_image(oci::ImageSource& source, oci::Document document);
  std::unordered_set<cdc::ChunkDigest> chunks_;
  std::vector<Digest> manifests_;
};

}  // namespace imsy::converter
