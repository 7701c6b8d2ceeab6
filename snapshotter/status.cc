#include "snapshotter/status.h"

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

}  // namespace imsy::snapshotter
