// Walks over directory trees that containers wrote: how much they hold, and their removal.
//
// Promises
//   * Depth costs no descriptors, and no path is ever longer than one name: a tree of any depth is
//     walked to its end.
//   * No symbolic link is followed and no other filesystem is entered.
// Threads: free functions, any thread. They wait for the disk.
#pragma once

#include <chrono>
#include <filesystem>
#include <stop_token>

#include "common/result.h"
#include "snapshotter/types.h"

namespace imsy::snapshotter {

struct Measured {
  Usage usage;
  bool complete = true;  // false: the deadline passed, or directories were moved during the walk
};

// Allocated bytes and inodes of the directory and all below it, each inode once however many names
// it has; what was counted until `deadline`.
Result<Measured> disk_usage(const std::filesystem::path& directory,
                            std::chrono::steady_clock::time_point deadline);

// Deletes the directory and all below it. Absent: no error. Nobody else may change the tree.
// kCancelled: `stop` was requested; what is left can be deleted later.
Status remove_tree(const std::filesystem::path& directory, const std::stop_token& stop = {});

}  // namespace imsy::snapshotter
