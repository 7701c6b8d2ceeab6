// remove_tree: deletes a directory with all that is in it.
//
// However deep it is: without recursion, with a few descriptors, and by names alone, never by a
// path. No link is followed. Directories of the caller's own may lack any permission.
// Threads: free function; waits for the disk.
#pragma once

#include <filesystem>

#include "common/result.h"

namespace imsy::cli::image {

// Nobody else may change the tree meanwhile. After an error a part of it is left.
Status remove_tree(const std::filesystem::path& directory);

}  // namespace imsy::cli::image
