// Listening TCP sockets from texts such as ":8080".
//
// Threads: free functions, any thread. Resolving a host name may wait for the network.
#pragma once

#include <string>

#include "common/io.h"
#include "common/result.h"

namespace imsy::http {

// A non-blocking socket that listens on "host:port", "[v6]:port" or ":port" (all addresses, both
// IP versions where the system has them). The port may be a service's name; 0 takes a free one.
// kInvalid: not such a text, or no such host. Other errors are the system's.
Result<UniqueFd> listen_on(const std::string& address);

// The address that the socket is bound to, as "host:port" with numbers.
Result<std::string> bound_address(int socket);

}  // namespace imsy::http
