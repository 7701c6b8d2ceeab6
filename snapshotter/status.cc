#include "snapshotter/status.h"

#include <exception>

#include "common/log.h"

namespace imsy::snapshotter {

grpc::StatusCode to_grpc(Errc code) {
  switch (code) {
    case Errc::kInvalid: return grpc::StatusCode::INVALID_ARGUMENT;
    case Errc::kNotFound: return grpc::StatusCode::NOT_FOUND;
    case Errc::kAlreadyExists: return grpc::StatusCode::ALREADY_EXISTS;
    case Errc::kFailedPrecondition: return grpc::StatusCode::FAILED_PRECONDITION;
    case Errc::kCorrupt: return grpc::StatusCode::DATA_LOSS;
    case Errc::kUnavailable: return grpc::StatusCode::UNAVAILABLE;
    case Errc::kNoSpace: return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case Errc::kDenied: return grpc::StatusCode::PERMISSION_DENIED;
    case Errc::kCancelled: return grpc::StatusCode::CANCELLED;
    case Errc::kTimeout: return grpc::StatusCode::DEADLINE_EXCEEDED;
    case Errc::kInternal: return grpc::StatusCode::INTERNAL;
  }
  return grpc::StatusCode::UNKNOWN;
}

grpc::Status to_grpc(const Error& error) {
  return {to_grpc(error.code()), error.message()};
}

grpc::Status guarded(std::string_view call, const std::function<Status()>& work) {
  try {
    const Status done = work();
    if (done) return grpc::Status::OK;
    log::debug("{}: {}: {}", call, to_string(done.error().code()), done.error().message());
    return to_grpc(done.error());
  } catch (const std::exception& unexpected) {
    log::error("{}: unexpected exception: {}", call, unexpected.what());
    return {grpc::StatusCode::INTERNAL, "imsy-snapshotter failed unexpectedly, see its log"};
  }
}

}  // namespace imsy::snapshotter
