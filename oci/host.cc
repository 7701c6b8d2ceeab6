#include "oci/host.h"

#include <algorithm>
#include <array>

namespace imsy::oci {
namespace {

constexpr std::string_view kDockerHub = "docker.io";
constexpr std::string_view kDockerHubServer = "registry-1.docker.io";

// A name as it stands in URLs: IPv6 addresses in brackets.
std::string for_url(std::string_view name) {
  if (!name.starts_with('[') && std::ranges::count(name, ':') > 1) {
    return "[" + std::string(name) + "]";
  }
  return std::string(name);
}

}  // namespace

std::string Host::authority() const {
  const std::size_t scheme = root.find("://");
  std::string text = scheme == std::string::npos ? root : root.substr(scheme + 3);
  text.resize(std::min(text.find('/'), text.size()));
  return text;
}

std::string Host::name() const {
  std::string text = authority();
  return text == kDockerHubServer ? std::string(kDockerHub) : text;
}

Host host_at(std::string_view endpoint) {
  Host host;
  host.root = std::string(endpoint) + "/v2";
  return host;
}

Host host_of(std::string_view name, bool plain_http) {
  if (name == kDockerHub || name == "index.docker.io") name = kDockerHubServer;
  return host_at((plain_http ? "http://" : "https://") + for_url(name));
}

std::string without_port(std::string_view name) {
  if (name.starts_with('[')) {
    const std::size_t end = name.find(']');
    if (end != std::string_view::npos) return std::string(name.substr(1, end - 1));
  }
  // More than one colon and no brackets: an address without port.
  const std::size_t colon = name.find(':');
  if (colon != std::string_view::npos && name.find(':', colon + 1) == std::string_view::npos) {
    name = name.substr(0, colon);
  }
  return std::string(name);
}

bool is_loopback(std::string_view name) {
  constexpr std::array<std::string_view, 3> kLoopback = {"localhost", "127.0.0.1", "::1"};
  return std::ranges::find(kLoopback, without_port(name)) != kLoopback.end();
}

}  // namespace imsy::oci
