// ProvedImage: a converted image whose documents are known and proved; its data layer is not read.
//
// Promises
//   * Image manifest, configuration, annotations and anchor agree, the anchor layer's tar gives
//     diffID 0, and the CDC manifest is the anchor's and valid as a whole.
//   * Nothing but documents was fetched: of the data layer only the part with the CDC manifest.
// Threads: a plain value; open_converted() waits for the network or the disk.
#pragma once

#include <memory>
#include <string>

#include "cdc/manifest.h"
#include "converter/source_image.h"

namespace imsy::converter {

struct ProvedImage {
  SourceImage image;
  cdc::Anchor anchor;
  std::shared_ptr<const cdc::Manifest> manifest;

  std::string platform() const { return platform_name(image.config.platform); }
  // Bytes of the raw address space.
  std::uint64_t raw_size() const;
};

// Takes an image of `source`. kFailedPrecondition: it is an ordinary one. kInvalid, kCorrupt: it
// says that it is converted, but the message tells what does not agree.
Result<ProvedImage> open_converted(oci::ImageSource& source, SourceImage image);

// The manifest that a converted image says it was made from; zero when it does not say.
Digest original_of(const oci::Manifest& manifest);

// Whether the image says that it is converted: all of its layers do. One that was built upon a
// converted image is an ordinary one, which can be converted.
bool says_converted(const SourceImage& image);

}  // namespace imsy::converter
