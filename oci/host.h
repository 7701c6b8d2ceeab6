// Host: where the API of a registry, or of a mirror of it, is found, and what is shown to it.
//
// Promises
//   * Headers and the client's certificate are for this origin only: neither the target of a
//     redirect nor a token realm elsewhere sees them, and `verify = false` does not hold there. The
//     authorities do, as the servers of one company share theirs.
// Threads: plain values and free functions.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "oci/tls.h"

namespace imsy::oci {

struct Host {
  std::string root;  // of the API: "https://registry.example/v2", without a slash at its end
  // A mirror of several registries is told which one is meant, as references name it, in the
  // parameter "ns" of every request; "": it is that registry itself.
  std::string name_space;
  std::vector<std::pair<std::string, std::string>> headers;  // sent with every request
  Tls tls;
  std::chrono::milliseconds connect_timeout{10'000};

  // As it stands in `root`: "registry.example:5000", "registry-1.docker.io".
  std::string authority() const;
  // How references, credentials and messages call it: "registry.example:5000", "docker.io".
  std::string name() const;
  // Whether something is shown that others may not have: what it answers need not be public.
  bool shows_identity() const { return !headers.empty() || !tls.certificate.empty(); }

  bool operator==(const Host&) const = default;
};

// The host at "https://registry.example", with the API where the specification has it.
Host host_at(std::string_view endpoint);
// The host that references call `name`, asked by https unless `plain_http`.
Host host_of(std::string_view name, bool plain_http);

// "host:port", "host", "[v6]:port" -> "host", "v6", as Go's URL.Hostname(), whose result stands in
// containerd's labels.
std::string without_port(std::string_view name);
// Whether a name in references means this machine.
bool is_loopback(std::string_view name);

}  // namespace imsy::oci
