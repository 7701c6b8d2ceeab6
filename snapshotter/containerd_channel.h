// The channel to containerd: for its own questions (containerd.h) and for those that are passed on
// to it (cri_proxy.h).
//
// Threads: a free function, any thread; what it returns may be used by all.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

namespace imsy::snapshotter {

// To the socket at `address`; connects when it is first used. A containerd that comes back is found
// within a moment, and messages are as large as it allows.
std::shared_ptr<grpc::Channel> channel_to_containerd(const std::string& address);

}  // namespace imsy::snapshotter
