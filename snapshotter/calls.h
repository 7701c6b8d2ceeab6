// Calls: every RPC from the moment it came to its answer: its log lines, its trace, its numbers.
//
// Threads: all methods from any thread.
#pragma once

#include <grpcpp/support/status.h>
#include <prometheus/collectable.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"

namespace prometheus {
class Counter;
class Histogram;
class Registry;
template <typename T>
class Family;
}  // namespace prometheus

namespace imsy::snapshotter {

// An RPC, as it came in.
struct Call {
  std::string_view method;  // a literal
  std::string snapshot;     // the key or name that it is about; "": none
  std::string trace;        // 32 hex digits
  std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
};

class Calls {
 public:
  // An answer that takes longer is worth a line of the log.
  static constexpr std::chrono::milliseconds kSlow{1'000};

  Calls();
  ~Calls();

  // Does the work and says how the call ends, as guarded(). Lines that are written meanwhile have
  // the call's snapshot and trace; one more tells of a slow call.
  grpc::Status run(const Call& call, const std::function<Status()>& work);

  // imsy_rpc_duration_seconds by method, imsy_rpc_ended_total by method and code.
  std::vector<prometheus::MetricFamily> metrics() const;

 private:
  void ended(const Call& call, grpc::StatusCode code, std::chrono::duration<double> took);

  const std::unique_ptr<prometheus::Registry> registry_;
  prometheus::Family<prometheus::Histogram>& durations_;
  prometheus::Family<prometheus::Counter>& ends_;
};

}  // namespace imsy::snapshotter
