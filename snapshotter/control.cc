#include "snapshotter/control.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "common/log.h"
#include "snapshotter/manifest_fetch.h"
#include "snapshotter/status.h"

namespace imsy::snapshotter {
namespace {

namespace api = imsy::control::v1;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kTellEvery{200};

Error no_store() {
  return {Errc::kUnavailable, "imsy-snapshotter has no store open, see its log"};
}

// What a check sends to its client, one message at a time.
class CheckStream final : public grpc::ServerWriteReactor<api::CheckResponse> {
 public:
  explicit CheckStream(const std::stop_token& stop)
      : on_stop_(stop, [this] { ended_.request_stop(); }) {}

  // Stopped when the client has gone, or the daemon stops.
  std::stop_token ended() const { return ended_.get_token(); }

  // Waits until the client has taken the last one; sends nothing when it has gone. By one thread.
  void send(api::CheckResponse message) {
    if (!wait_until_taken()) return;
    message_ = std::move(message);
    StartWrite(&message_);
  }
  // The last call.
  void end(const grpc::Status& status) {
    wait_until_taken();
    Finish(status);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) ended_.request_stop();
    MutexLock lock(mu_);
    gone_ = gone_ || !ok;
    writing_ = false;
    taken_.notify_all();
  }
  void OnCancel() override { ended_.request_stop(); }
  void OnDone() override { delete this; }

 private:
  // True: the next one may be sent, and is under way from now on.
  bool wait_until_taken() {
    MutexLock lock(mu_);
    while (writing_) taken_.wait(mu_);
    writing_ = !gone_;
    return !gone_;
  }

  std::stop_source ended_;
  const std::stop_callback<std::function<void()>> on_stop_;
  api::CheckResponse message_;
  Mutex mu_;
  CondVar taken_;
  bool writing_ IMSY_GUARDED_BY(mu_) = false;
  bool gone_ IMSY_GUARDED_BY(mu_) = false;
};

// One check of the store, as a client asked for it.
class NodeCheck {
 public:
  NodeCheck(cas::Store& store, NodeImages& images, const api::CheckRequest& request,
            CheckStream& stream)
      : store_(store), images_(images), request_(request), stream_(stream) {}

  Status run() {
    IMSY_TRY_ASSIGN(const auto known, store_.images());
    for (const Digest& image : known) {
      IMSY_TRY_ASSIGN(const bool resident, store_.is_resident(image));
      if (resident) resident_.insert(image);
    }
    IMSY_TRY_ASSIGN(
        cas::CheckSummary summary,
        store_.check({.read_data = request_.read_data(),
                      .repair = request_.repair(),
                      .fetch_manifest = [this](const Digest& image) { return fetch(image); }},
                     {.finding = [this](const cas::Finding& finding) { tell(finding); },
                      .progress = [this](const auto&, const auto& done) { tell(done, 0); }},
                     stream_.ended()));
    if (images_.fills()) IMSY_TRY(wait_for_fill(summary));
    for (const Digest& image : fetched_) {
      if (!store_.load_image(image)) --summary.mended;
    }
    send_summary(summary);
    return {};
  }

 private:
  Status fetch(const Digest& image) {
    IMSY_TRY(images_.repair_manifest(image));
    fetched_.insert(image);
    return {};
  }

  void tell(const cas::Finding& finding) {
    log::warn("store: {}: {}; {}", finding.where, finding.what, finding.remedy);
    api::CheckResponse message;
    api::Finding& to = *message.mutable_finding();
    to.set_where(finding.where);
    to.set_what(log::printable(finding.what));
    to.set_remedy(log::printable(finding.remedy));
    to.set_repaired(finding.mended);
    for (const Digest& image : finding.images) {
      to.add_images(image.to_string());
      if (finding.mended && resident_.contains(image)) affected_.insert(image);
    }
    stream_.send(std::move(message));
  }

  // At most five times a second.
  void tell(const cas::CheckSummary& done, std::size_t to_fill) {
    if (Clock::now() < next_) return;
    next_ = Clock::now() + kTellEvery;
    api::CheckResponse message;
    api::Progress& to = *message.mutable_progress();
    to.set_objects(done.objects);
    to.set_bytes(done.bytes);
    to.set_images_to_fill(static_cast<std::uint32_t>(to_fill));
    stream_.send(std::move(message));
  }

  Status wait_for_fill(const cas::CheckSummary& summary) {
    for (;;) {
      IMSY_TRY_ASSIGN(const std::size_t lacking, count_lacking());
      if (lacking == 0 && !images_.repairing()) return {};
      tell(summary, std::max<std::size_t>(lacking, 1));
      wait_until(Clock::now() + kTellEvery, stream_.ended());
      if (stream_.ended().stop_requested()) return Error(Errc::kCancelled, "not waited for");
    }
  }

  // Images that were whole before, and still are not again.
  Result<std::size_t> count_lacking() {
    IMSY_TRY_ASSIGN(const auto known, store_.images());
    std::size_t lacking = 0;
    for (const Digest& image : known) {
      if (!affected_.contains(image)) continue;
      IMSY_TRY_ASSIGN(const bool resident, store_.is_resident(image));
      IMSY_TRY_ASSIGN(const bool shrunk, store_.is_shrunk(image));  // meanwhile, for want of room
      lacking += resident || shrunk ? 0 : 1;
    }
    return lacking;
  }

  void send_summary(const cas::CheckSummary& summary) {
    api::CheckResponse message;
    api::Summary& to = *message.mutable_summary();
    to.set_images(summary.images);
    to.set_objects(summary.objects);
    to.set_bytes(summary.bytes);
    to.set_findings(summary.findings);
    to.set_repaired(summary.mended);
    to.set_left_to_readers(!affected_.empty() && !images_.fills());
    stream_.send(std::move(message));
  }

  cas::Store& store_;
  NodeImages& images_;
  const api::CheckRequest& request_;
  CheckStream& stream_;
  std::set<Digest> resident_;  // before
  std::set<Digest> affected_;  // of these
  std::set<Digest> fetched_;   // their CDC manifests were damaged
  Clock::time_point next_ = Clock::time_point::min();
};

}  // namespace

Control::Control(const Parts& parts) : parts_(parts) {}

Control::~Control() {
  stop();
}

grpc::ServerUnaryReactor* Control::Status(grpc::CallbackServerContext* context,
                                          const api::StatusRequest*,
                                          api::StatusResponse* response) {
  response->set_root(parts_.layout.root().string());
  response->set_pid(static_cast<std::uint32_t>(::getpid()));
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* Control::Collect(grpc::CallbackServerContext* context,
                                           const api::CollectRequest* request,
                                           api::CollectResponse* response) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  const auto extent =
      request->shrink() ? cas::Store::Extent::kShrink : cas::Store::Extent::kUnowned;
  const std::uint64_t bytes =
      request->bytes() > 0 ? request->bytes() : std::numeric_limits<std::uint64_t>::max();
  control_.submit([this, reactor, response, extent, bytes] {
    reactor->Finish(guarded("Collect", [&]() -> imsy::Status {
      if (parts_.node.store() == nullptr) return no_store();
      IMSY_TRY_ASSIGN(const cas::Collected collected, parts_.node.store()->collect(extent, bytes));
      response->set_objects(collected.objects);
      response->set_bytes(collected.bytes);
      return {};
    }));
  });
  return reactor;
}

grpc::ServerWriteReactor<api::CheckResponse>* Control::Check(grpc::CallbackServerContext*,
                                                             const api::CheckRequest* request) {
  auto* const stream = new CheckStream(stop_.get_token());  // deletes itself when gRPC is done
  if (checking_.exchange(true)) {
    stream->end({grpc::StatusCode::RESOURCE_EXHAUSTED,
                 "another check is under way; try again when it is over"});
    return stream;
  }
  check_.submit([this, stream, request] {
    yield_disk_to_others();
    const grpc::Status done = guarded("Check", [&]() -> imsy::Status {
      if (parts_.node.store() == nullptr) return no_store();
      return NodeCheck(*parts_.node.store(), *parts_.node.lazy_images(), *request, *stream).run();
    });
    checking_ = false;
    stream->end(done);
  });
  return stream;
}

void Control::fill_snapshot(const Explained& from, api::ExplainedSnapshot& to) const {
  std::optional<std::int64_t> slot;
  const auto add = [&](const Row& row) {
    api::ExplainedLayer& layer = *to.add_layers();
    layer.set_key(row.info.name);
    layer.set_kind(std::string(to_string(row.info.kind)));
    layer.set_lazy(row.image.has_value());
    layer.set_reason(row.reason);
    if (row.directory) layer.set_directory(parts_.layout.fs(*row.directory).string());
    if (row.image) slot = row.image->slot;
  };
  add(from.row);
  for (const Row& parent : from.parents) add(parent);
  to.set_is_volatile(!from.row.volatile_boot.empty());
  if (!slot || parts_.node.lazy_images() == nullptr) return;
  const auto facts = parts_.node.lazy_images()->facts(*slot);
  if (!facts) return;  // removed meanwhile
  api::ExplainedImage& image = *to.mutable_image();
  image.set_manifest(facts->record.manifest.to_string());
  image.set_directory(parts_.layout.slot(*slot).string());
  image.set_live(facts->live);
  image.set_resident(facts->resident);
  image.set_shrunk(facts->shrunk);
  image.set_filling(facts->filling);
  image.set_is_public(facts->record.trust_domain.empty());
  for (const Source& source : facts->sources) {
    image.add_places(source.endpoint + "/" + source.repository);
  }
  image.set_requests(facts->fetched.requests);
  image.set_bytes_fetched(facts->fetched.bytes_fetched);
  image.set_bytes_copied(facts->fetched.bytes_copied);
}

imsy::Status Control::explain(const std::string& name, api::ExplainResponse& to) const {
  if (name.empty()) {
    const Surroundings seen = parts_.look_around();
    for (const std::string& fact : seen.facts) to.add_facts(fact);
    const Health health = parts_.health();
    for (const std::string& what : health.broken) to.add_advice()->set_what("broken: " + what);
    for (const std::string& what : health.degraded) to.add_advice()->set_what("degraded: " + what);
    for (const Advice& one : seen.advice) {
      api::Advice& advice = *to.add_advice();
      advice.set_what(one.what);
      advice.set_remedy(one.remedy);
    }
    return {};
  }
  IMSY_TRY_ASSIGN(const auto found, parts_.snapshotter.explain(name));
  if (found.empty()) {
    return Error(Errc::kNotFound, "no snapshot is called " + name +
                                      ": `ctr snapshots --snapshotter imsy ls` and "
                                      "`ctr containers ls` have the names");
  }
  for (const Explained& one : found) fill_snapshot(one, *to.add_snapshots());
  return {};
}

grpc::ServerUnaryReactor* Control::Explain(grpc::CallbackServerContext* context,
                                           const api::ExplainRequest* request,
                                           api::ExplainResponse* response) {
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
  explain_.submit([this, reactor, request, response] {
    reactor->Finish(guarded("Explain", [&] { return explain(request->name(), *response); }));
  });
  return reactor;
}

}  // namespace imsy::snapshotter
