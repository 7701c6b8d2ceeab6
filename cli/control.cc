#include "cli/control.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <utility>

#include "proto/deadline.h"

namespace imsy::cli {
namespace {

namespace api = control::v1;

// Of a call that the daemon answers at once.
constexpr std::chrono::seconds kAnswerLimit{5};
// Of one that asks containerd first.
constexpr std::chrono::seconds kExplainLimit{30};

Error error_of(const grpc::Status& status) {
  Errc code = Errc::kUnavailable;
  if (status.error_code() == grpc::StatusCode::CANCELLED) code = Errc::kCancelled;
  if (status.error_code() == grpc::StatusCode::DATA_LOSS) code = Errc::kCorrupt;
  if (status.error_code() == grpc::StatusCode::NOT_FOUND) code = Errc::kNotFound;
  return {code, status.error_message()};
}

}  // namespace

// The client, and the daemon's root directory.
Result<std::pair<ControlClient, std::string>> ControlClient::connect_any(
    const std::filesystem::path& state) {
  const std::string socket = state / "control.sock";
  ControlClient client(api::Control::NewStub(
      grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials())));
  grpc::ClientContext context;
  context.set_deadline(deadline_after(kAnswerLimit));
  api::StatusResponse node;
  const grpc::Status answered = client.stub_->Status(&context, api::StatusRequest(), &node);
  if (!answered.ok()) {
    return Error(Errc::kUnavailable, "imsy-snapshotter does not answer at " + socket + " (" +
                                         answered.error_message() +
                                         "); name its state directory with --state, or stop it");
  }
  return std::pair(std::move(client), node.root());
}

Result<ControlClient> ControlClient::connect(const std::filesystem::path& state) {
  IMSY_TRY_ASSIGN(auto connected, connect_any(state));
  return std::move(connected.first);
}

Result<ControlClient> ControlClient::connect(const std::filesystem::path& state,
                                             const std::filesystem::path& root) {
  IMSY_TRY_ASSIGN(auto connected, connect_any(state));
  std::error_code ignored;
  if (std::filesystem::equivalent(root, connected.second, ignored)) {
    return std::move(connected.first);
  }
  return Error(Errc::kFailedPrecondition, "the imsy-snapshotter of " + state.string() +
                                              " works on " + connected.second + ", not on " +
                                              root.string() + "; name the right one with --state");
}

Result<api::ExplainResponse> ControlClient::explain(const std::string& name) {
  grpc::ClientContext context;
  context.set_deadline(deadline_after(kExplainLimit));
  api::ExplainRequest request;
  request.set_name(name);
  api::ExplainResponse response;
  const grpc::Status done = stub_->Explain(&context, request, &response);
  if (!done.ok()) return error_of(done);
  return response;
}

Result<cas::Collected> ControlClient::collect(cas::Store::Extent extent, std::uint64_t bytes) {
  grpc::ClientContext context;
  api::CollectRequest request;
  request.set_shrink(extent == cas::Store::Extent::kShrink);
  request.set_bytes(bytes);
  api::CollectResponse response;
  const grpc::Status done = stub_->Collect(&context, request, &response);
  if (!done.ok()) return error_of(done);
  return cas::Collected{response.objects(), response.bytes()};
}

imsy::Status ControlClient::check(const api::CheckRequest& request,
                                  const std::function<void(const api::CheckResponse&)>& report,
                                  const std::stop_token& stop) {
  grpc::ClientContext context;
  const std::stop_callback cancel(stop, [&context] { context.TryCancel(); });
  const auto stream = stub_->Check(&context, request);
  api::CheckResponse response;
  while (stream->Read(&response)) report(response);
  const grpc::Status done = stream->Finish();
  if (stop.stop_requested()) return Error(Errc::kCancelled, "interrupted");
  if (!done.ok()) return error_of(done);
  return {};
}

}  // namespace imsy::cli
