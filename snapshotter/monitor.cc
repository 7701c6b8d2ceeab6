#include "snapshotter/monitor.h"

#include <utility>

#include "common/http/listener.h"
#include "common/log.h"
#include "snapshotter/metrics.h"
#include "snapshotter/socket.h"

namespace imsy::snapshotter {
namespace {

// A scraper, a probe, and somebody who looks.
constexpr unsigned kAskers = 4;

http::Reply text_reply(int status, std::string text) {
  http::Reply reply;
  reply.status = status;
  reply.content_type = "text/plain; charset=utf-8";
  reply.text = std::move(text);
  return reply;
}

http::Reply failure(const Error& error) {
  return text_reply(500, log::printable(error.message()) + "\n");
}

}  // namespace

Result<std::unique_ptr<Monitor>> Monitor::start(const std::string& address, const Parts& parts) {
  std::unique_ptr<Monitor> monitor(new Monitor(parts));
  const bool is_path = address.starts_with('/');
  IMSY_TRY_ASSIGN(UniqueFd listening, is_path ? listen_at(address) : http::listen_on(address));
  std::string where = address;
  if (!is_path) {
    IMSY_TRY_ASSIGN(where, http::bound_address(listening.get()));
    where = "http://" + where;
  }
  IMSY_TRY_ASSIGN(monitor->server_,
                  http::Server::create(std::move(listening), kAskers,
                                       [self = monitor.get()](const std::string& path) {
                                         return self->answer(path);
                                       }));
  monitor->thread_ = std::jthread([self = monitor.get()](const std::stop_token& stop) {
    const Status ran = self->server_->run(stop);
    if (!ran) log::error("no more metrics and health: {}", ran.error().message());
  });
  log::info("metrics and health at {}", where);
  return monitor;
}

Monitor::~Monitor() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
}

void Monitor::note(Health health) {
  MutexLock lock(mu_);
  health_ = std::move(health);
  noted_ = std::chrono::steady_clock::now();
}

Health Monitor::current() const {
  MutexLock lock(mu_);
  Health health = health_;
  const auto age =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - noted_);
  if (age > kNewsAge) {
    health.broken.push_back("the daemon hangs since " + std::to_string(age.count()) +
                            " s: look at its log and its disk, then restart it");
  }
  return health;
}

http::Reply Monitor::answer(const std::string& path) const {
  if (path == "/metrics") return metrics();
  if (path == "/healthz") return health();
  return text_reply(404, "here are /metrics and /healthz\n");
}

http::Reply Monitor::health() const {
  const Health health = current();
  return text_reply(health.broken.empty() ? 200 : 503, health.to_text());
}

// One at a time: what hangs on the disk must leave threads for who asks about health.
http::Reply Monitor::metrics() const {
  if (counting_.exchange(true)) return text_reply(503, "somebody else is being answered\n");
  http::Reply reply = collect_metrics();
  counting_ = false;
  return reply;
}

http::Reply Monitor::collect_metrics() const {
  Numbers numbers;
  numbers.version = IMSY_VERSION;
  numbers.stats = parts_.node.stats();
  numbers.tree = parts_.node.tree_stats();
  auto snapshots = parts_.database.count_kinds();
  if (!snapshots) return failure(snapshots.error());
  numbers.snapshots = std::move(*snapshots);
  const auto process = read_process_numbers();
  if (!process) return failure(process.error());
  numbers.process = *process;
  const auto space = parts_.node.space();
  numbers.disk_bytes = space.capacity;
  numbers.disk_free_bytes = space.available;
  numbers.healthy = current().broken.empty();
  http::Reply reply = text_reply(200, to_prometheus(numbers, parts_.calls.metrics()));
  reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
  return reply;
}

}  // namespace imsy::snapshotter
