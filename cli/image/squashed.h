// Squashed: the tree that the layers of any image make, with its contents.
//
// Threads: as ContentSpool; squash() waits for the network and the disk.
#pragma once

#include <filesystem>

#include "cli/image/compare.h"
#include "converter/content_spool.h"
#include "converter/data_layer.h"
#include "converter/layer_reader.h"
#include "converter/source_image.h"

namespace imsy::cli::image {

struct Squashed {
  converter::PlannedImage plan;
  converter::ContentSpool spool;

  Content content() const;
};

// Reads all layers of `image`, as imsy-convert does. Contents are cut by `chunker` and kept in an
// unnamed file in `temporary`. Errors as converter/layer_reader.h.
Result<Squashed> squash(oci::ImageSource& source, const converter::SourceImage& image,
                        const converter::InputOptions& input, const cdc::ChunkerParameters& chunker,
                        const std::filesystem::path& temporary);

}  // namespace imsy::cli::image
