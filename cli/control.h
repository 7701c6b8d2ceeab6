// ControlClient: what `imsy` asks of a running imsy-snapshotter: proto/imsy/control.proto.
//
// Threads: belongs to one thread. Calls wait for the daemon.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "cas/store.h"
#include "common/result.h"
#include "proto/imsy/control.grpc.pb.h"

namespace imsy::cli {

// Where imsy-snapshotter has its sockets unless it is told otherwise.
inline constexpr const char* kNodeState = "/run/imsy-snapshotter";

class ControlClient {
 public:
  // The daemon whose state directory this is. kUnavailable: it does not answer;
  // kFailedPrecondition: it works on another root directory.
  static Result<ControlClient> connect(const std::filesystem::path& state,
                                       const std::filesystem::path& root);
  // Whatever it works on.
  static Result<ControlClient> connect(const std::filesystem::path& state);

  // As Store::collect().
  Result<cas::Collected> collect(cas::Store::Extent extent, std::uint64_t bytes);
  // About a snapshot, or with "" about the machine. kNotFound: no snapshot has this name.
  Result<control::v1::ExplainResponse> explain(const std::string& name);
  // Hands over all that the daemon reports. kCancelled on `stop`; the daemon then ends, too.
  imsy::Status check(const control::v1::CheckRequest& request,
                     const std::function<void(const control::v1::CheckResponse&)>& report,
                     const std::stop_token& stop);

 private:
  static Result<std::pair<ControlClient, std::string>> connect_any(
      const std::filesystem::path& state);
  explicit ControlClient(std::unique_ptr<control::v1::Control::Stub> stub)
      : stub_(std::move(stub)) {}

  std::unique_ptr<control::v1::Control::Stub> stub_;
};

}  // namespace imsy::cli
