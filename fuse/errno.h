// to_errno: what a reader is told when an operation fails.
//
// The kind decides, not the errno that a lower layer may have met: a registry that answers 403 is
// not the reader's missing permission, and a full disk of the node is not the reader's quota.
// Threads: any.
#pragma once

#include "common/result.h"

namespace imsy::fuse {

// A positive errno, never 0.
int to_errno(Errc code);

}  // namespace imsy::fuse
