// BaseImages: what the nodes that are to be upgraded hold already: other converted images.
//
// Of these only documents are fetched at first: manifests and CDC manifests. Single frames follow
// when the same frame is to be written again, which saves compressing it.
// Threads: add() from one thread, which may wait for the network or the disk; afterwards all other
// methods from any thread.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "converter/proved_image.h"

namespace imsy::converter {

class BaseImages {
 public:
  // Adds what `object` (a tag or a digest) names in `source`: an image, or all images of an index.
  // kFailedPrecondition: an image is not converted. kInvalid: an index without images. Else errors
  // as open_converted().
  Status add(std::shared_ptr<oci::ImageSource> source, const std::string& object);

  const std::unordered_set<cdc::ChunkDigest>& chunks() const { return chunks_; }

  // What `encoder` (see cdc::FrameEncoder::describe) makes of `raw`, a frame that holds `chunks`,
  // taken from a base instead of being computed. Nothing when no base has just this frame of this
  // encoder, or does not give it. Waits for the network or the disk.
  std::optional<Bytes> find_frame(std::span<const cdc::ChunkDigest> chunks, ByteSpan raw,
                                  const std::string& encoder) const;

 private:
  struct Base {
    std::shared_ptr<oci::ImageSource> source;
    ProvedImage image;
    std::string encoder;
    // Frames are a favour: a source that fails once is not asked again.
    mutable std::atomic<bool> gives_frames{true};
  };
  struct Place {
    const Base* base;
    std::uint32_t frame;
  };
  Status add_image(const std::shared_ptr<oci::ImageSource>& source, SourceImage image);
  void add_frames(const Base& base);

  std::unordered_set<cdc::ChunkDigest> chunks_;
  std::vector<std::unique_ptr<Base>> bases_;
  std::unordered_multimap<Digest, Place> frames_;  // by the hash of their chunks' digests
};

}  // namespace imsy::converter
