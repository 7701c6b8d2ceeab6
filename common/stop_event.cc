#include "common/stop_event.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <utility>

namespace imsy {

StopEvent::StopEvent(UniqueFd event, const std::stop_token& stop)
    : event_(std::move(event)),
      stop_(stop),
      callback_(stop, [fd = event_.get()] { ::eventfd_write(fd, 1); }) {}

Result<std::unique_ptr<StopEvent>> StopEvent::create(const std::stop_token& stop) {
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return Error::from_errno(errno, "eventfd");
  return std::unique_ptr<StopEvent>(new StopEvent(std::move(event), stop));
}

}  // namespace imsy
