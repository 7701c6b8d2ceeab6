// Errors as gRPC carries them: the only place where an Errc becomes a gRPC status.
//
// Threads: free functions.
#pragma once

#include <grpcpp/support/status.h>

#include <functional>
#include <string_view>

#include "common/result.h"

namespace imsy::snapshotter {

// containerd tells errors apart by the code; the message goes to the person who asked.
grpc::Status to_grpc(const Error& error);
grpc::StatusCode to_grpc(Errc code);

// How a call ends that does `work`. The last resort for what nobody expected: when it throws, the
// call ends with an error, and the daemon goes on.
grpc::Status guarded(std::string_view call, const std::function<Status()>& work);

}  // namespace imsy::snapshotter
