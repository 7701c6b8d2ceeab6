// Least privilege: what the daemon gives up for good when it starts.
//
// It stays root, because it mounts, and reads and deletes what containers of any user wrote.
// Threads: call once, from the main thread, before others exist: they inherit it, as do the
//   programs that it runs for credentials.
#pragma once

#include "common/result.h"

namespace imsy::snapshotter {

// Gives up all capabilities but those for mounting and for files of others, the gain of new ones by
// running a program, and system calls that it never makes and that are good for taking over the
// machine: they fail with EPERM. kDenied, or the system's error: none of it, or not all.
// Source: capabilities(7), seccomp(2).
Status reduce_privileges();

}  // namespace imsy::snapshotter
