// Errors as gRPC carries them: the only place where an Errc becomes a gRPC status.
//
// Threads: a pure function.
#pragma once

#include <grpcpp/support/status.h>

#include "common/result.h"

namespace imsy::snapshotter {

// containerd tells errors apart by the code; the message goes to the person who asked.
grpc::Status to_grpc(const Error& error);
grpc::StatusCode to_grpc(Errc code);

}  // namespace imsy::snapshotter
