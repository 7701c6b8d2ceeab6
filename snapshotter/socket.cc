#include "snapshotter/socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

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
    ucred peer = {};
    socklen_t size = sizeof peer;
    const bool known = getsockopt(probe.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    return Error(Errc::kUnavailable,
                 path.string() + " is in use by another process" +
                     (known && peer.pid > 0 ? " (pid " + std::to_string(peer.pid) + ")" : "") +
                     ": stop it, or choose another --address");
  }
  if (errno != ECONNREFUSED) return Error::from_errno(errno, "connect to " + path.string());
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Error::from_errno(errno, "remove the stale socket " + path.string());
  }
  return {};
}

}  // namespace

Result<UniqueFd> listen_at(const std::filesystem::path& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.native().size() >= sizeof address.sun_path) {
    return Error(Errc::kInvalid, "socket path " + path.string() + " is longer than " +
                                     std::to_string(sizeof address.sun_path - 1) + " bytes");
  }
  std::memcpy(address.sun_path, path.c_str(), path.native().size() + 1);

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
