// Control: the gRPC face of a node for its operator: proto/imsy/control.proto.
//
// Threads: gRPC calls in from its own threads, which only hand the work on. Two pools do it:
//     control  Collect
//     explain  Explain
//     check    Check, one at a time; sends as fast as the client takes
// stop() and the destructor from one thread.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <stop_token>

#include "common/thread_pool.h"
#include "proto/imsy/control.grpc.pb.h"
#include "snapshotter/layout.h"
#include "snapshotter/node.h"
#include "snapshotter/snapshotter.h"
#include "snapshotter/surroundings.h"

namespace imsy::snapshotter {

class Control final : public imsy::control::v1::Control::CallbackService {
 public:
  struct Parts {
    Node& node;
    Snapshotter& snapshotter;
    Layout layout;
    // Waits for containerd, at most 2 seconds.
    std::function<Surroundings()> look_around;
    std::function<Health()> health;
  };
  // All outlives the service, the service outlives the server.
  explicit Control(const Parts& parts);
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
  grpc::ServerUnaryReactor* Explain(grpc::CallbackServerContext* context,
                                    const imsy::control::v1::ExplainRequest* request,
                                    imsy::control::v1::ExplainResponse* response) override;

 private:
  imsy::Status explain(const std::string& name, imsy::control::v1::ExplainResponse& to) const;
  void fill_snapshot(const Explained& from, imsy::control::v1::ExplainedSnapshot& to) const;

  const Parts parts_;
  std::stop_source stop_;
  std::atomic<bool> checking_{false};
  ThreadPool control_{"control", 1};
  ThreadPool explain_{"explain", 1};
  ThreadPool check_{"check", 1};
};

}  // namespace imsy::snapshotter
