// Deadlines of gRPC calls by the monotonic clock: one of the system's clock would move with it.
//
// Threads: a pure function.
#pragma once

#include <grpc/support/time.h>

#include <chrono>

namespace imsy {

// For set_deadline() and Shutdown().
inline gpr_timespec deadline_after(std::chrono::nanoseconds limit) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(limit.count(), GPR_TIMESPAN));
}

}  // namespace imsy
