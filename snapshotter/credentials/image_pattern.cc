#include "snapshotter/credentials/image_pattern.h"

#include <algorithm>
#include <array>
#include <string>

#include "oci/auth.h"

namespace imsy::snapshotter {
namespace {

// In time of at most the product of both lengths, whatever the pattern.
bool matches_label(std::string_view pattern, std::string_view label) {
  std::size_t p = 0;
  std::size_t l = 0;
  std::size_t star = std::string_view::npos;  // the last one that was met
  std::size_t resume = 0;                     // where the label goes on if it takes one more
  while (l < label.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = l;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == label[l])) {
      ++p;
      ++l;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      l = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

struct HostPort {
  std::string_view host;
  std::string_view port;
};

HostPort split_port(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  const std::size_t bracket = text.rfind(']');  // of an IPv6 address
  const bool port = colon != std::string_view::npos &&
                    (bracket == std::string_view::npos ? text.find(':') == colon : bracket < colon);
  if (!port) return {text, {}};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

bool matches_host(std::string_view pattern, std::string_view host) {
  const HostPort wanted = split_port(pattern);
  const HostPort named = split_port(host);
  if (wanted.port != named.port) return false;
  std::string_view left = wanted.host;
  std::string_view right = named.host;
  for (;;) {
    const std::size_t l = std::min(left.find('.'), left.size());
    const std::size_t r = std::min(right.find('.'), right.size());
    if (!matches_label(left.substr(0, l), right.substr(0, r))) return false;
    if (l == left.size() || r == right.size()) return l == left.size() && r == right.size();
    left.remove_prefix(l + 1);
    right.remove_prefix(r + 1);
  }
}

std::string_view without_scheme(std::string_view pattern) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (pattern.starts_with(scheme)) pattern.remove_prefix(scheme.size());
  }
  return pattern;
}

}  // namespace

std::string_view path_of_pattern(std::string_view pattern) {
  pattern = without_scheme(pattern);
  pattern.remove_prefix(std::min(pattern.find('/'), pattern.size()));
  for (const std::string_view version : {"/v1", "/v2"}) {
    if (pattern == version || pattern.starts_with(std::string(version) + "/")) {
      pattern.remove_prefix(version.size());
      break;
    }
  }
  return pattern == "/" ? std::string_view() : pattern;
}

bool matches_image(std::string_view pattern, const oci::CredentialQuery& image) {
  const std::string_view path = path_of_pattern(pattern);
  pattern = without_scheme(pattern);
  const std::string_view host = pattern.substr(0, pattern.find('/'));
  if (!("/" + image.repository).starts_with(path)) return false;
  if (!oci::is_docker_hub(image.host)) return matches_host(host, image.host);
  constexpr std::array<std::string_view, 3> kNames = {"docker.io", "index.docker.io",
                                                      "registry-1.docker.io"};
  return std::ranges::any_of(kNames,
                             [&](std::string_view name) { return matches_host(host, name); });
}

}  // namespace imsy::snapshotter
