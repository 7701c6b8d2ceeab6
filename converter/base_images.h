// BaseImages: what the nodes that are to be upgraded hold already: other converted images.
//
// Of these only documents are fetched: manifests and CDC manifests.
// Threads: add() from one thread, which may wait for the network or the disk; afterwards all other
// methods from any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_set>

#include "converter/known_frames.h"

namespace imsy::converter {

// Visits what `object` (a tag or a digest) names in `source`: an image, or all images of an index.
// kFailedPrecondition: an image is not converted. kInvalid: an index without images. Else errors as
// open_converted(), and the visitor's.
Status for_each_converted(oci::ImageSource& source, const std::string& object,
                          const std::function<Status(const ProvedImage& image)>& visit);

class BaseImages {
 public:
  // Errors as for_each_converted().
  Status add(const std::shared_ptr<oci::ImageSource>& source, const std::string& object);

  const std::unordered_set<cdc::ChunkDigest>& chunks() const { return chunks_; }
  const KnownFrames& frames() const { return frames_; }

 private:
  std::unordered_set<cdc::ChunkDigest> chunks_;
  KnownFrames frames_;
};

}  // namespace imsy::converter
