#include "snapshotter/status.h"

#include <gtest/gtest.h>

#include <set>

namespace imsy::snapshotter {
namespace {

// Every kind of error, to the last one that the enumeration has.
std::set<Errc> all_kinds() {
  std::set<Errc> kinds;
  for (int i = 0; i <= static_cast<int>(Errc::kInternal); ++i) kinds.insert(static_cast<Errc>(i));
  return kinds;
}

TEST(Status, EveryKindHasACodeOfItsOwn) {
  std::set<grpc::StatusCode> codes;
  for (const Errc kind : all_kinds()) {
    const grpc::StatusCode code = to_grpc(kind);
    EXPECT_NE(code, grpc::StatusCode::OK) << to_string(kind);
    EXPECT_NE(code, grpc::StatusCode::UNKNOWN) << to_string(kind);
    EXPECT_TRUE(codes.insert(code).second) << to_string(kind);
  }
}

TEST(Status, ContainerdsKindsKeepTheirMeaning) {
  EXPECT_EQ(to_grpc(Errc::kInvalid), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(to_grpc(Errc::kNotFound), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(to_grpc(Errc::kAlreadyExists), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(to_grpc(Errc::kFailedPrecondition), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(to_grpc(Errc::kUnavailable), grpc::StatusCode::UNAVAILABLE);
}

TEST(Status, TheMessageIsKept) {
  const grpc::Status status = to_grpc(Error(Errc::kNotFound, "snapshot x does not exist"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "snapshot x does not exist");
}

}  // namespace
}  // namespace imsy::snapshotter
