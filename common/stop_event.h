// StopEvent: a stop request as a file descriptor, for poll(2) beside others.
//
// Threads: all methods from any thread.
#pragma once

#include <functional>
#include <memory>
#include <stop_token>

#include "common/io.h"
#include "common/result.h"

namespace imsy {

class StopEvent {
 public:
  // Fails when the process has no descriptor left.
  static Result<std::unique_ptr<StopEvent>> create(const std::stop_token& stop);
  StopEvent(const StopEvent&) = delete;
  StopEvent& operator=(const StopEvent&) = delete;

  // Readable from the stop request on, for all who poll it. Never read from it.
  int fd() const { return event_.get(); }
  bool requested() const { return stop_.stop_requested(); }

 private:
  StopEvent(UniqueFd event, const std::stop_token& stop);

  const UniqueFd event_;
  const std::stop_token stop_;
  std::stop_callback<std::function<void()>> callback_;
};

}  // namespace imsy
