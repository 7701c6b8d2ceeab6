#include "snapshotter/notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "common/io.h"
#include "common/log.h"

namespace imsy::snapshotter {

void notify_service_manager(std::string_view state) {
  const char* name = std::getenv("NOTIFY_SOCKET");
  if (name == nullptr || name[0] == '\0') return;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::size_t size = std::strlen(name);
  if (size >= sizeof address.sun_path) {
    log::warn("NOTIFY_SOCKET is too long");
    return;
  }
  std::memcpy(address.sun_path, name, size);
  if (name[0] == '@') address.sun_path[0] = '\0';  // an abstract address
  const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + size);
  if (!fd || sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL,
                    reinterpret_cast<const sockaddr*>(&address), length) < 0) {
    log::warn("the service manager was not notified: {}", std::strerror(errno));
  }
}

}  // namespace imsy::snapshotter
