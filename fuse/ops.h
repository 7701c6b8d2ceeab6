// The kernel's requests as calls of ImageFs: the table of callbacks for a libfuse session.
//
// Promises
//   * Read-only, and without state between requests: no handles, no lookup counts. A successor that
//     serves the same images can go on where this server stopped.
//   * What a session negotiates depends on nothing but the kernel's offer, so that a successor
//     negotiates the same.
// Threads: libfuse runs the callbacks on whichever thread brings the request.
// Source: fuse_lowlevel.h of libfuse 3.14, linux/fuse.h.
#pragma once

#include "fuse/fuse_api.h"

namespace imsy::fuse {

// Callbacks for fuse_session_new; its user data is a Server.
const fuse_lowlevel_ops& image_ops();

}  // namespace imsy::fuse
