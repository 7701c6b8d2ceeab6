// KnownFrames: frames of converted images that lie in registries and layouts. When just the same
// frame is to be written again, it is taken from there instead of being compressed again, which
// changes no byte.
//
// Threads: add() from one thread; afterwards find() from any thread, which waits for the network or
// the disk.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "converter/proved_image.h"

namespace imsy::converter {

class KnownFrames {
 public:
  // Of `source` single ranges are read, from several threads; frames of one that cannot give them
  // are not known. Of `image` nothing is kept but where its frames lie.
  void add(const std::shared_ptr<oci::ImageSource>& source, const ProvedImage& image);

  // What `encoder` (see cdc::FrameEncoder::describe) makes of `raw`, a frame that holds `chunks`.
  // Nothing when no image has just this frame of this encoder, or does not give it.
  std::optional<Bytes> find(std::span<const cdc::ChunkDigest> chunks, ByteSpan raw,
                            const std::string& encoder) const;

 private:
  struct Image {
    std::shared_ptr<oci::ImageSource> source;
    std::string encoder;
    std::vector<oci::Descriptor> layers;
    // Frames are a favour: a source that fails once is not asked again.
    mutable std::atomic<bool> gives{true};
  };
  struct Place {
    const Image* image;
    cdc::Frame frame;
  };

  std::vector<std::unique_ptr<Image>> images_;
  std::unordered_multimap<Digest, Place> frames_;  // by the hash of their chunks' digests
};

}  // namespace imsy::converter
