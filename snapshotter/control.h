// Control: the gRPC face of a node for its operator: proto/imsy/control.proto.
//
// Threads: gRPC calls in from its own threads, which only hand the work on. Two pools do it:
//     control  Status, Collect
//     check    Check, one at a time; sends as fast as the client takes
// stop() and the destructor from one thread.
#pragma once

#include <atomic>
#include <filesystem>
#include <stop_token>

#include "common/thread_pool.h"
#include "proto/imsy/control.grpc.pb.h"
#include "snapshotter/node.h"

namespace imsy::snapshotter {

class Control final : public imsy::control::v1::Control::CallbackService {
 public:
  // The node outlives the service, the service outlives the server. `root` is the node's.
  Control(Node& node, std::filesystem::path root);
  ~Control() override;

  // Ends a check that is under way; calls from then on fail. Does not wait.
  void stop() { stop_.request_stop(); }

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context,
                                   const imsy::control::v1::StatusRequest* request,
                                   imsy::control::v1::StatusResponse* response) override;
  grpc::ServerUnaryReactor* Collect(grpc::CallbackServerContext* context,
                                    const imsy::control::v1::CollectRequest* request,
                                    imsy::control::v1::CollectResponse* response) override;
  grpc::ServerWriteReactor<imsy::control::v1::CheckResponse>* Check(
      grpc::CallbackServerContext* context,
      const imsy::control::v1::CheckRequest* request) override;

 private:
  Node& node_;
  const std::filesystem::path root_;
  std::stop_source stop_;
  std::atomic<bool> checking_{false};
  ThreadPool control_{"control", 1};
  ThreadPool check_{"check", 1};
};

}  // namespace imsy::snapshotter
