// unpack: an image's tree in a directory.
//
// Threads: one call, one thread; waits for the network and the disk.
#pragma once

#include <filesystem>
#include <stop_token>

#include "cli/image/squashed.h"
#include "converter/proved_image.h"

namespace imsy::cli::image {

// Both build the tree as cli/image/tree_writer.h says, and make it `directory` at the end. A stop
// request ends them with kCancelled.

// Every chunk is checked before it is written, and the blobs' digests at their ends. kCorrupt also
// for files that are larger together than the tar that should hold them.
Status unpack(oci::ImageSource& source, const converter::ProvedImage& image,
              const std::filesystem::path& directory, const std::stop_token& stop);

Status unpack(const Squashed& image, const std::filesystem::path& directory,
              const std::stop_token& stop);

}  // namespace imsy::cli::image
