#include "snapshotter/calls.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>

#include "common/log.h"
#include "snapshotter/status.h"

namespace imsy::snapshotter {
namespace {

// By their numbers in gRPC.
constexpr std::array kCodeNames = {
    "OK",        "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
    "ABORTED",   "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED"};

const char* name_of(grpc::StatusCode code) {
  const auto number = static_cast<std::size_t>(code);
  return number < kCodeNames.size() ? kCodeNames[number] : "UNKNOWN";
}

// From what a Stat takes to what a Prepare may wait.
const prometheus::Histogram::BucketBoundaries kSeconds = {
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};

}  // namespace

Calls::Calls()
    : registry_(std::make_unique<prometheus::Registry>()),
      durations_(prometheus::BuildHistogram()
                     .Name("imsy_rpc_duration_seconds")
                     .Help("From the arrival of a call of containerd to its answer.")
                     .Register(*registry_)),
      ends_(prometheus::BuildCounter()
                .Name("imsy_rpc_ended_total")
                .Help("Calls of containerd, by their gRPC status.")
                .Register(*registry_)) {}

Calls::~Calls() = default;

grpc::Status Calls::run(const Call& call, const std::function<Status()>& work) {
  const log::Field trace("trace", call.trace);
  const log::Field snapshot("snapshot", call.snapshot);
  const auto started = std::chrono::steady_clock::now();
  const grpc::Status status = guarded(call.method, work);
  const auto now = std::chrono::steady_clock::now();
  ended(call, status.error_code(), now - call.begun);
  if (now - call.begun >= kSlow) {
    const std::chrono::duration<double> took = now - call.begun;
    const std::chrono::duration<double> waited = started - call.begun;
    log::warn("{} took {:.1f} s, {:.1f} s of them until others had been served, and ended with {}",
              call.method, took.count(), waited.count(), name_of(status.error_code()));
  }
  return status;
}

void Calls::ended(const Call& call, grpc::StatusCode code, std::chrono::duration<double> took) {
  const std::string method(call.method);
  durations_.Add({{"method", method}}, kSeconds).Observe(took.count());
  ends_.Add({{"method", method}, {"code", name_of(code)}}).Increment();
}

std::vector<prometheus::MetricFamily> Calls::metrics() const {
  return registry_->Collect();
}

}  // namespace imsy::snapshotter
