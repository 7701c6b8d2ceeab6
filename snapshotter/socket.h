// The daemon's unix socket: who may bind it, and who may connect.
//
// Threads: create and destroy from one thread.
#pragma once

#include <filesystem>

#include "common/io.h"
#include "common/result.h"

namespace imsy::snapshotter {

// Listens at `path`, for root only (mode 0600); a missing directory is made with mode 0711. A
// socket that nobody listens at is replaced. kUnavailable: another process listens there, its pid
// is in the message. kFailedPrecondition: the path is something else than a socket. kInvalid: too
// long. The descriptor does not block.
Result<UniqueFd> listen_at(const std::filesystem::path& path);

}  // namespace imsy::snapshotter
