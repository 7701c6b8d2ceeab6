// Tells the service manager how far we are (systemd's notification protocol, sd_notify(3)).
//
// Threads: any.
#pragma once

#include <string_view>

namespace imsy::snapshotter {

// Sends `state`, e.g. "READY=1", to the socket that NOTIFY_SOCKET names; nothing without one.
// Failures are logged only: a service manager that does not listen is no reason to stop.
void notify_service_manager(std::string_view state);

}  // namespace imsy::snapshotter
