// Monitor: what Prometheus and probes ask over HTTP: /metrics and /healthz.
//
// Promises
//   * /healthz answers also when the daemon hangs, and says so then.
//   * Nobody but this machine reaches it.
// Threads: create, note() and destroy from one thread. Answers come from threads of its own, which
//   wait for the disk at most.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "common/http/server.h"
#include "common/mutex.h"
#include "common/result.h"
#include "snapshotter/calls.h"
#include "snapshotter/database.h"
#include "snapshotter/health.h"
#include "snapshotter/node.h"

namespace imsy::snapshotter {

class Monitor {
 public:
  // All outlive it.
  struct Parts {
    const Node& node;
    Database& database;
    const Calls& calls;
  };
  // Older news than that mean that the daemon hangs.
  static constexpr std::chrono::seconds kNewsAge{30};

  // Listens at a loopback address or at a socket's path, as Config::metrics_address. Errors: as
  // listen_at() and http::listen_on().
  static Result<std::unique_ptr<Monitor>> start(const std::string& address, const Parts& parts);
  ~Monitor();

  // How things are. To be called about once a second.
  void note(Health health);

 private:
  explicit Monitor(const Parts& parts) : parts_(parts) {}
  http::Reply answer(const std::string& path) const;
  http::Reply metrics() const;
  http::Reply collect_metrics() const;
  http::Reply health() const;
  Health current() const;

  const Parts parts_;
  mutable std::atomic<bool> counting_{false};  // somebody is being told the metrics
  mutable Mutex mu_;
  Health health_ IMSY_GUARDED_BY(mu_);
  std::chrono::steady_clock::time_point noted_ IMSY_GUARDED_BY(mu_) =
      std::chrono::steady_clock::now();
  std::unique_ptr<http::Server> server_;
  std::jthread thread_;
};

}  // namespace imsy::snapshotter
