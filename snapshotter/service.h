// Service: the gRPC face of a Snapshotter. Translates messages and errors, decides nothing.
//
// Threads: gRPC calls in from its own threads, which hand the work on, but for what is known
// without
//   a query. Three pools do it, so that no kind of call waits behind a slower one:
//     rpc      everything that waits for the disk at most
//     measure  Usage and Cleanup, which may walk whole trees
//     prepare  Prepare of imsy layers, which may wait for a registry
// Source: containerd api/services/snapshots/v1.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>

#include "common/thread_pool.h"
#include "proto/containerd/snapshots.grpc.pb.h"
#include "snapshotter/calls.h"
#include "snapshotter/snapshotter.h"

namespace imsy::snapshotter {

struct ServiceOptions {
  unsigned rpc_threads = 4;
  unsigned measure_threads = 2;
  unsigned prepare_threads = 8;
  // How long Prepare may wait for an image's CDC manifest, from the moment it was asked.
  std::chrono::milliseconds prepare_timeout{10'000};
  std::chrono::milliseconds cleanup_timeout{10'000};
};

class Service final : public containerd::services::snapshots::v1::Snapshots::CallbackService {
 public:
  // `snapshotter` and `calls` outlive the service, the service outlives the server.
  Service(Snapshotter& snapshotter, Calls& calls, const ServiceOptions& options = {});

  // For calls that come from now on. From any thread.
  void set_prepare_timeout(std::chrono::milliseconds timeout) { prepare_timeout_ = timeout; }

  grpc::ServerUnaryReactor* Prepare(
      grpc::CallbackServerContext* context,
      const containerd::services::snapshots::v1::PrepareSnapshotRequest* request,
      containerd::services::snapshots::v1::PrepareSnapshotResponse* response) override;
  grpc::ServerUnaryReactor* View(
      grpc::CallbackServerContext* context,
      const containerd::services::snapshots::v1::ViewSnapshotRequest* request,
      containerd::services::snapshots::v1::ViewSnapshotResponse* response) override;
  grpc::ServerUnaryReactor* Mounts(
      grpc::CallbackServerContext* context,
      const containerd::services::snapshots::v1::MountsRequest* request,
      containerd::services::snapshots::v1::MountsResponse* response) override;
  grpc::ServerUnaryReactor* Commit(
      grpc::CallbackServerContext* context,
      const containerd::services::snapshots::v1::CommitSnapshotRequest* request,
      google::protobuf::Empty* response) override;
  grpc::ServerUnaryReactor* Remove(
      grpc::CallbackServerContext* context,
      const containerd::services::snapshots::v1::RemoveSnapshotRequest* request,
      google::protobuf::Empty* response) override;
  grpc::ServerUnaryReactor* Stat(
      grpc::CallbackServerContext* context,
      const containerd::services::snapshots::v1::StatSnapshotRequest* request,
      containerd::services::snapshots::v1::StatSnapshotResponse* response) override;
  grpc::ServerUnaryReactor* Update(
      grpc::CallbackServerContext* context,
      const containerd::services::snapshots::v1::UpdateSnapshotRequest* request,
      containerd::services::snapshots::v1::UpdateSnapshotResponse* response) override;
  grpc::ServerWriteReactor<containerd::services::snapshots::v1::ListSnapshotsResponse>* List(
      grpc::CallbackServerContext* context,
      const containerd::services::snapshots::v1::ListSnapshotsRequest* request) override;
  grpc::ServerUnaryReactor* Usage(
      grpc::CallbackServerContext* context,
      const containerd::services::snapshots::v1::UsageRequest* request,
      containerd::services::snapshots::v1::UsageResponse* response) override;
  grpc::ServerUnaryReactor* Cleanup(
      grpc::CallbackServerContext* context,
      const containerd::services::snapshots::v1::CleanupRequest* request,
      google::protobuf::Empty* response) override;

 private:
  template <typename Work>
  grpc::ServerUnaryReactor* answer(grpc::CallbackServerContext* context, ThreadPool& pool,
                                   Call call, Work work);
  template <typename Work>
  grpc::ServerUnaryReactor* answer_now(grpc::CallbackServerContext* context, const Call& call,
                                       Work work);

  Snapshotter& snapshotter_;
  Calls& calls_;
  std::atomic<std::chrono::milliseconds> prepare_timeout_;
  const ServiceOptions options_;
  ThreadPool rpc_;
  ThreadPool measure_;
  ThreadPool prepare_;
};

}  // namespace imsy::snapshotter
