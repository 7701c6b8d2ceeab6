#include "snapshotter/containerd_channel.h"

namespace imsy::snapshotter {

std::shared_ptr<grpc::Channel> channel_to_containerd(const std::string& address) {
  // containerd's own limit, in both directions.
  constexpr int kMessageLimit = 16 << 20;
  // Far less than a call may take.
  constexpr int kReconnectMs = 100;
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMessageLimit);
  arguments.SetMaxSendMessageSize(kMessageLimit);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMs);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMs);
  return grpc::CreateCustomChannel("unix:" + address, grpc::InsecureChannelCredentials(),
                                   arguments);
}

}  // namespace imsy::snapshotter
