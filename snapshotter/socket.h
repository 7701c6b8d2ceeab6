// The daemon's unix socket: who may bind it, and who may connect.
//
// Threads: create and destroy from one thread.
#pragma once

#include <sys/types.h>

#include <filesystem>

#include "common/io.h"
#include "common/result.h"

namespace imsy::snapshotter {

// Listens at `path`, for root only (mode 0600); a missing directory is made with mode 0711. A
// socket that nobody listens at is replaced. kUnavailable: another process listens there, its pid
// is in the message. kFailedPrecondition: the path is something else than a socket. kInvalid: too
// long. The descriptor does not block.
Result<UniqueFd> listen_at(const std::filesystem::path& path);

// The process that listens at `path`; 0: nobody does, or it cannot be told. Does not wait.
pid_t listener_of(const std::filesystem::path& path);

// The socket for `path` that the service manager listens at and has handed to this process
// (LISTEN_PID, LISTEN_FDS), so that no call fails while a daemon is restarted; an empty one when it
// has handed over nothing. kFailedPrecondition: what it has handed over is not for `path`. Call it
// once, before other threads exist and before other descriptors are open: it takes these variables
// away.
// Source: systemd, sd_listen_fds(3).
Result<UniqueFd> inherited_socket(const std::filesystem::path& path);

}  // namespace imsy::snapshotter
