#include "common/http/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <utility>

namespace imsy::http {
namespace {

struct HostPort {
  std::string host;  // empty: all addresses
  std::string port;
};

Result<HostPort> split(const std::string& address) {
  const auto colon = address.rfind(':');
  const auto bracket = address.rfind(']');
  const bool has_port = colon != std::string::npos && colon + 1 < address.size() &&
                        (bracket == std::string::npos || bracket + 1 == colon);
  if (!has_port) return Error(Errc::kInvalid, "listen " + address + ": missing port in address");
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    return Error(Errc::kInvalid, "listen " + address + ": write an IPv6 address as [address]:port");
  }
  return HostPort{host, address.substr(colon + 1)};
}

Result<UniqueFd> listen_at(const addrinfo& where, const std::string& address) {
  UniqueFd socket(::socket(where.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  const int off = 0;
  const bool listens =
      socket && ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
      (where.ai_family != AF_INET6 ||
       ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) == 0) &&
      ::bind(socket.get(), where.ai_addr, where.ai_addrlen) == 0 &&
      ::listen(socket.get(), SOMAXCONN) == 0;
  if (!listens) return Error::from_errno(errno, "listen " + address);
  return socket;
}

Result<UniqueFd> listen_on_host(const char* host, const HostPort& wanted,
                                const std::string& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int rc = ::getaddrinfo(host, wanted.port.c_str(), &hints, &found); rc != 0) {
    return Error(Errc::kInvalid, "listen " + address + ": " + ::gai_strerror(rc));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
  return listen_at(*found, address);
}

}  // namespace

Result<UniqueFd> listen_on(const std::string& address) {
  IMSY_TRY_ASSIGN(const HostPort wanted, split(address));
  if (!wanted.host.empty()) return listen_on_host(wanted.host.c_str(), wanted, address);
  auto both = listen_on_host("::", wanted, address);
  // A system without IPv6.
  if (!both &&
      (both.error().sys_errno() == EAFNOSUPPORT || both.error().sys_errno() == EADDRNOTAVAIL)) {
    return listen_on_host("0.0.0.0", wanted, address);
  }
  return both;
}

Result<std::string> bound_address(int socket) {
  sockaddr_storage name{};
  socklen_t size = sizeof name;
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&name), &size) != 0) {
    return Error::from_errno(errno, "getsockname");
  }
  if (const int rc = ::getnameinfo(reinterpret_cast<sockaddr*>(&name), size, host, sizeof host,
                                   port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
      rc != 0) {
    return Error(Errc::kInternal, std::string("getnameinfo: ") + ::gai_strerror(rc));
  }
  const std::string text = host;
  return (text.find(':') == std::string::npos ? text : "[" + text + "]") + ":" + port;
}

}  // namespace imsy::http
