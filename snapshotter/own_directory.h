// The daemon's directories: nobody else may change them, and one daemon uses them at a time.
//
// Threads: free functions and plain values.
#pragma once

#include <sys/types.h>

#include <filesystem>

#include "common/io.h"
#include "common/result.h"

namespace imsy::snapshotter {

// Makes `path` a directory of this mode when it is missing, with its parents, and checks it: it and
// all above it belong to root or to us, and nobody else can rename or replace what they hold.
// kFailedPrecondition says which one is wrong and how to mend it. Returns the path without symbolic
// links.
Result<std::filesystem::path> own_directory(const std::filesystem::path& path, mode_t mode);

// Locks `directory` for this process, by a file "lock" in it that stays there. The lock ends when
// the descriptor is closed. kUnavailable: another process has it; its pid is in the message.
Result<UniqueFd> lock_directory(const std::filesystem::path& directory);

}  // namespace imsy::snapshotter
