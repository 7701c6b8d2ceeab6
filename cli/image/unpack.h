// unpack: an image's tree in a directory.
//
// Threads: one call, one thread; waits for the network and the disk.
#pragma once

#include <filesystem>

#include "cli/image/squashed.h"
#include "converter/proved_image.h"

namespace imsy::cli::image {

// Both build the tree as cli/image/tree_writer.h says, and make it `directory` at the end.

// Every chunk is checked before it is written, and the blobs' digests at their ends.
Status unpack(oci::ImageSource& source, const converter::ProvedImage& image,
              const std::filesystem::path& directory);

Status unpack(const Squashed& image, const std::filesystem::path& directory);

}  // namespace imsy::cli::image
