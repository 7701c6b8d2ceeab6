#include "snapshotter/service.h"

#include <algorithm>
#include <utility>

#include "common/log.h"
#include "snapshotter/status.h"
#include "snapshotter/trace.h"

namespace imsy::snapshotter {
namespace {

namespace api = containerd::services::snapshots::v1;

constexpr int kInfosPerMessage = 100;
constexpr std::string_view kNamespaceHeader = "containerd-namespace";
constexpr std::string_view kTraceHeader = "traceparent";

Labels labels_of(const google::protobuf::Map<std::string, std::string>& from) {
  return {from.begin(), from.end()};
}

// "" when there is none.
std::string header_of(const grpc::CallbackServerContext& context, std::string_view name) {
  const auto& headers = context.client_metadata();
  const auto header = headers.find(grpc::string_ref(name.data(), name.size()));
  if (header == headers.end()) return "";
  return {header->second.data(), header->second.size()};
}

// The client's namespace: from the header, or from a key of the form <namespace>/<number>/<name>.
std::string namespace_of(const grpc::CallbackServerContext& context, const std::string& key) {
  std::string header = header_of(context, kNamespaceHeader);
  if (!header.empty()) return header;
  const std::size_t slash = key.find('/');
  return slash == std::string::npos ? "" : key.substr(0, slash);
}

template <typename Request>
PrepareRequest prepare_request(const grpc::CallbackServerContext& context, const Request& from) {
  return {from.key(), from.parent(), labels_of(from.labels()), namespace_of(context, from.key())};
}

api::Kind kind_of(Kind kind) {
  switch (kind) {
    case Kind::kView: return api::Kind::VIEW;
    case Kind::kActive: return api::Kind::ACTIVE;
    case Kind::kCommitted: return api::Kind::COMMITTED;
  }
  return api::Kind::UNKNOWN;
}

void fill_time(google::protobuf::Timestamp& to, std::int64_t ns) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  to.set_seconds(ns / kSecond);
  to.set_nanos(static_cast<std::int32_t>(ns % kSecond));
}

void fill_info(api::Info& to, const Info& info) {
  to.set_name(info.name);
  to.set_parent(info.parent);
  to.set_kind(kind_of(info.kind));
  fill_time(*to.mutable_created_at(), info.created_ns);
  fill_time(*to.mutable_updated_at(), info.updated_ns);
  to.mutable_labels()->insert(info.labels.begin(), info.labels.end());
}

template <typename Response>
void fill_mounts(Response& to, const std::vector<Mount>& mounts) {
  for (const Mount& mount : mounts) {
    auto& added = *to.add_mounts();
    added.set_type(mount.type);
    added.set_source(mount.source);
    for (const std::string& option : mount.options) added.add_options(option);
  }
}

Call call_of(const grpc::CallbackServerContext& context, std::string_view method,
             const std::string& snapshot) {
  std::string trace = trace_of(header_of(context, kTraceHeader));
  return {method, snapshot, trace.empty() ? new_trace() : std::move(trace)};
}

// Streams a list that was read before; nothing is locked while the client takes its time.
class ListReactor final : public grpc::ServerWriteReactor<api::ListSnapshotsResponse> {
 public:
  void start(std::vector<Info> infos) {
    infos_ = std::move(infos);
    write_more();
  }
  void OnWriteDone(bool ok) override {
    if (ok) {
      write_more();
    } else {
      Finish({grpc::StatusCode::CANCELLED, "the client went away"});
    }
  }
  void OnDone() override { delete this; }

 private:
  void write_more() {
    if (next_ == infos_.size()) {
      Finish(grpc::Status::OK);
      return;
    }
    message_.Clear();
    while (next_ < infos_.size() && message_.info_size() < kInfosPerMessage) {
      fill_info(*message_.add_info(), infos_[next_++]);
    }
    StartWrite(&message_);
  }

  std::vector<Info> infos_;
  std::size_t next_ = 0;
  api::ListSnapshotsResponse message_;
};

}  // namespace

Service::Service(Snapshotter& snapshotter, Calls& calls, const ServiceOptions& options)
    : snapshotter_(snapshotter),
      calls_(calls),
      prepare_timeout_(options.prepare_timeout),
      options_(options),
      rpc_("rpc", options.rpc_threads),
      measure_("measure", options.measure_threads),
      prepare_("prepare", options.prepare_threads) {}

// Runs `work` on the pool; request and response live until the reactor finishes.
template <typename Work>
grpc::ServerUnaryReactor* Service::answer(grpc::CallbackServerContext* context, ThreadPool& pool,
                                          Call call, Work work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  pool.submit([this, reactor, call = std::move(call), work = std::move(work)] {
    reactor->Finish(calls_.run(call, work));
  });
  return reactor;
}

// The same on gRPC's thread, for what waits for nothing.
template <typename Work>
grpc::ServerUnaryReactor* Service::answer_now(grpc::CallbackServerContext* context,
                                              const Call& call, Work work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(calls_.run(call, [&]() -> Status {
    work();
    return {};
  }));
  return reactor;
}

grpc::ServerUnaryReactor* Service::Prepare(grpc::CallbackServerContext* context,
                                           const api::PrepareSnapshotRequest* request,
                                           api::PrepareSnapshotResponse* response) {
  auto prepare = prepare_request(*context, *request);
  const Deadline deadline = std::chrono::steady_clock::now() + prepare_timeout_.load();
  ThreadPool& pool = Snapshotter::may_wait(prepare) ? prepare_ : rpc_;
  const auto work = [this, prepare = std::move(prepare), deadline, response]() -> Status {
    IMSY_TRY_ASSIGN(const auto mounts, snapshotter_.prepare(prepare, deadline));
    fill_mounts(*response, mounts);
    return {};
  };
  return answer(context, pool, call_of(*context, "Prepare", request->key()), work);
}

grpc::ServerUnaryReactor* Service::View(grpc::CallbackServerContext* context,
                                        const api::ViewSnapshotRequest* request,
                                        api::ViewSnapshotResponse* response) {
  const auto work = [this, view = prepare_request(*context, *request), response]() -> Status {
    IMSY_TRY_ASSIGN(const auto mounts, snapshotter_.view(view));
    fill_mounts(*response, mounts);
    return {};
  };
  return answer(context, rpc_, call_of(*context, "View", request->key()), work);
}

grpc::ServerUnaryReactor* Service::Mounts(grpc::CallbackServerContext* context,
                                          const api::MountsRequest* request,
                                          api::MountsResponse* response) {
  return answer(context, rpc_, call_of(*context, "Mounts", request->key()),
                [this, request, response]() -> Status {
                  IMSY_TRY_ASSIGN(const auto mounts, snapshotter_.mounts(request->key()));
                  fill_mounts(*response, mounts);
                  return {};
                });
}

grpc::ServerUnaryReactor* Service::Commit(grpc::CallbackServerContext* context,
                                          const api::CommitSnapshotRequest* request,
                                          google::protobuf::Empty*) {
  return answer(context, rpc_, call_of(*context, "Commit", request->name()),
                [this, request]() -> Status {
                  return snapshotter_.commit(request->key(), request->name(),
                                             labels_of(request->labels()), request->parent());
                });
}

grpc::ServerUnaryReactor* Service::Remove(grpc::CallbackServerContext* context,
                                          const api::RemoveSnapshotRequest* request,
                                          google::protobuf::Empty*) {
  return answer(context, rpc_, call_of(*context, "Remove", request->key()),
                [this, request]() -> Status { return snapshotter_.remove(request->key()); });
}

grpc::ServerUnaryReactor* Service::Stat(grpc::CallbackServerContext* context,
                                        const api::StatSnapshotRequest* request,
                                        api::StatSnapshotResponse* response) {
  Call call = call_of(*context, "Stat", request->key());
  if (const auto known = snapshotter_.known_info(request->key())) {
    return answer_now(context, call, [&] { fill_info(*response->mutable_info(), *known); });
  }
  return answer(context, rpc_, std::move(call), [this, request, response]() -> Status {
    IMSY_TRY_ASSIGN(const Info info, snapshotter_.stat(request->key()));
    fill_info(*response->mutable_info(), info);
    return {};
  });
}

grpc::ServerUnaryReactor* Service::Update(grpc::CallbackServerContext* context,
                                          const api::UpdateSnapshotRequest* request,
                                          api::UpdateSnapshotResponse* response) {
  return answer(context, rpc_, call_of(*context, "Update", request->info().name()),
                [this, request, response]() -> Status {
                  const auto& paths = request->update_mask().paths();
                  IMSY_TRY_ASSIGN(const Info info,
                                  snapshotter_.update({request->info().name(),
                                                       labels_of(request->info().labels()),
                                                       {paths.begin(), paths.end()}}));
                  fill_info(*response->mutable_info(), info);
                  return {};
                });
}

grpc::ServerWriteReactor<api::ListSnapshotsResponse>* Service::List(
    grpc::CallbackServerContext* context, const api::ListSnapshotsRequest* request) {
  auto* reactor = new ListReactor();  // deletes itself when gRPC is done with it
  rpc_.submit([this, request, reactor, call = call_of(*context, "List", "")] {
    std::vector<Info> infos;
    const grpc::Status status = calls_.run(call, [&]() -> Status {
      const auto& filters = request->filters();
      IMSY_TRY_ASSIGN(infos, snapshotter_.list({filters.begin(), filters.end()}));
      return {};
    });
    if (status.ok()) {
      reactor->start(std::move(infos));
    } else {
      reactor->Finish(status);
    }
  });
  return reactor;
}

grpc::ServerUnaryReactor* Service::Usage(grpc::CallbackServerContext* context,
                                         const api::UsageRequest* request,
                                         api::UsageResponse* response) {
  Call call = call_of(*context, "Usage", request->key());
  const auto fill = [response](const snapshotter::Usage& usage) {
    response->set_size(usage.size);
    response->set_inodes(usage.inodes);
  };
  if (const auto known = snapshotter_.known_usage(request->key())) {
    return answer_now(context, call, [&] { fill(*known); });
  }
  return answer(context, measure_, std::move(call), [this, request, fill]() -> Status {
    IMSY_TRY_ASSIGN(const auto usage, snapshotter_.usage(request->key()));
    fill(usage);
    return {};
  });
}

grpc::ServerUnaryReactor* Service::Cleanup(grpc::CallbackServerContext* context,
                                           const api::CleanupRequest*, google::protobuf::Empty*) {
  return answer(context, measure_, call_of(*context, "Cleanup", ""), [this]() -> Status {
    // What is not deleted by then goes on in the background; the client has nothing to do about it.
    const Status done =
        snapshotter_.cleanup(std::chrono::steady_clock::now() + options_.cleanup_timeout);
    if (!done && done.error().code() == Errc::kTimeout) return {};
    return done;
  });
}

}  // namespace imsy::snapshotter
