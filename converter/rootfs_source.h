// Root filesystems that are no images yet: a tar file, or a directory, as an image of one layer.
//
// The image has no configuration of its own, so it gets the smallest one, a function of platform
// and content: no command, no environment, no time of creation.
// Threads: a source belongs to one thread.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "oci/repository.h"

namespace imsy::converter {

// `file`, plain, gzip or zstd; "-" is the standard input. What cannot be read twice is kept in an
// unnamed file in `temporary`. `platforms`: what the image is for, one; none: this machine.
// Opening reads all of it once, for its digests.
Result<std::unique_ptr<oci::ImageSource>> open_tar(const std::filesystem::path& file,
                                                   const std::vector<oci::Platform>& platforms,
                                                   const std::filesystem::path& temporary);

// The tree below `path`, as converter/directory_tar.h says. It is read twice, first for its digest:
// a tree that changes in between is kCorrupt.
Result<std::unique_ptr<oci::ImageSource>> open_directory(
    const std::filesystem::path& path, const std::vector<oci::Platform>& platforms);

}  // namespace imsy::converter
