#include "snapshotter/socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace imsy::snapshotter {
namespace {

constexpr int kBacklog = 64;

Result<UniqueFd> new_socket() {
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Error::from_errno(errno, "make a socket");
  return fd;
}

const sockaddr* general(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// 0: it cannot be told.
pid_t peer_of(int connected) {
  ucred peer = {};
  socklen_t size = sizeof peer;
  return getsockopt(connected, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.pid : 0;
}

Result<sockaddr_un> address_of(const std::filesystem::path& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof address.sun_path) {
    return Error(Errc::kInvalid, "socket path " + path.string() + " is longer than " +
                                     std::to_string(sizeof address.sun_path - 1) + " bytes");
  }
  std::memcpy(address.sun_path, path.c_str(), path.native().size() + 1);
  return address;
}

// Removes a socket that nobody listens at.
Status remove_stale(const std::filesystem::path& path, const sockaddr_un& address) {
  struct stat st = {};
  if (lstat(path.c_str(), &st) != 0) {
    if (errno == ENOENT) return {};
    return Error::from_errno(errno, "stat " + path.string());
  }
  if (!S_ISSOCK(st.st_mode)) {
    return Error(Errc::kFailedPrecondition, path.string() +
                                                " exists and is not a socket: remove it, or choose"
                                                " another --address");
  }
  IMSY_TRY_ASSIGN(const UniqueFd probe, new_socket());
  const bool answered = connect(probe.get(), general(address), sizeof address) == 0;
  if (answered || errno == EAGAIN) {
    const pid_t pid = peer_of(probe.get());
    return Error(Errc::kUnavailable, path.string() + " is in use by another process" +
                                         (pid > 0 ? " (pid " + std::to_string(pid) + ")" : "") +
                                         ": stop it, or choose another --address");
  }
  if (errno != ECONNREFUSED) return Error::from_errno(errno, "connect to " + path.string());
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Error::from_errno(errno, "remove the stale socket " + path.string());
  }
  return {};
}

// The first descriptor that is handed over.
constexpr int kFirstInherited = 3;
constexpr int kInheritedMax = 64;

int number_in_environment(const char* name) {
  const char* const value = std::getenv(name);
  const std::string_view text = value == nullptr ? "" : value;
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : 0;
}

// How many descriptors the service manager has handed over.
int take_inherited_count() {
  const bool for_us = number_in_environment("LISTEN_PID") == getpid();
  const int count = for_us ? number_in_environment("LISTEN_FDS") : 0;
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) unsetenv(name);
  return std::clamp(count, 0, kInheritedMax);
}

// Whether `fd` is a stream socket that listens at `path`.
bool listens_at(int fd, const std::filesystem::path& path) {
  sockaddr_un address = {};
  socklen_t size = sizeof address;
  int type = 0;
  int listening = 0;
  socklen_t int_size = sizeof type;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0 &&
         address.sun_family == AF_UNIX && size > offsetof(sockaddr_un, sun_path) &&
         path == std::string(address.sun_path,
                             strnlen(address.sun_path, size - offsetof(sockaddr_un, sun_path))) &&
         getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &int_size) == 0 && type == SOCK_STREAM &&
         getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &int_size) == 0 && listening == 1;
}

}  // namespace

pid_t listener_of(const std::filesystem::path& path) {
  const auto address = address_of(path);
  const auto fd = new_socket();
  if (!address || !fd) return 0;
  const bool connected = connect(fd->get(), general(*address), sizeof *address) == 0;
  return connected ? peer_of(fd->get()) : 0;
}

Result<UniqueFd> inherited_socket(const std::filesystem::path& path) {
  const int count = take_inherited_count();
  UniqueFd found;
  for (int fd = kFirstInherited; fd < kFirstInherited + count; ++fd) {
    UniqueFd one(fd);  // closed when it is not the one
    if (!found && listens_at(fd, path)) found = std::move(one);
  }
  if (!found) {
    if (count == 0) return found;
    return Error(Errc::kFailedPrecondition,
                 "the service manager has handed over sockets, but none that listens at " +
                     path.string() + ": ListenStream= and --address must be the same");
  }
  const int flags = fcntl(found.get(), F_GETFL);
  if (flags < 0 || fcntl(found.get(), F_SETFL, flags | O_NONBLOCK) != 0 ||
      fcntl(found.get(), F_SETFD, FD_CLOEXEC) != 0) {
    return Error::from_errno(errno, "set up the socket " + path.string());
  }
  return found;
}

Result<UniqueFd> listen_at(const std::filesystem::path& path) {
  IMSY_TRY_ASSIGN(const sockaddr_un address, address_of(path));
  const auto directory = path.parent_path();
  if (!directory.empty() && mkdir(directory.c_str(), 0711) == 0) {
    if (chmod(directory.c_str(), 0711) != 0) {
      return Error::from_errno(errno, "set the mode of " + directory.string());
    }
  } else if (!directory.empty() && errno != EEXIST) {
    return Error::from_errno(errno, "make directory " + directory.string());
  }
  IMSY_TRY(remove_stale(path, address));
  IMSY_TRY_ASSIGN(UniqueFd fd, new_socket());
  // Nobody can connect before listen(), so there is no moment with a wider mode.
  if (bind(fd.get(), general(address), sizeof address) != 0) {
    return Error::from_errno(errno, "bind " + path.string());
  }
  if (chmod(path.c_str(), 0600) != 0) {
    return Error::from_errno(errno, "set the mode of " + path.string());
  }
  if (listen(fd.get(), kBacklog) != 0) {
    return Error::from_errno(errno, "listen at " + path.string());
  }
  return fd;
}

}  // namespace imsy::snapshotter
