// Any bytes as a kubeconfig and as a secret of a cluster: no crash, and only https is spoken.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "oci/base64.h"
#include "snapshotter/credentials/kubernetes_secrets.h"

namespace imsy::snapshotter {
namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "kubernetes_fuzz: %s\n", what);
  std::abort();
}

void check_secret(std::string_view encoded) {
  const auto logins = parse_docker_secret(encoded);
  if (!logins) {
    require(logins.error().code() == Errc::kInvalid, "another error");
    return;
  }
  for (const auto& [pattern, login] : *logins) require(!login.empty(), "an empty login");
}

void fuzz(std::string_view text) {
  if (const auto config = parse_kubeconfig(text, "fuzz")) {
    require(config->server.starts_with("https://"), "a server that is not spoken to by https");
    require(config->server.find_first_of("?# \n") == std::string::npos, "more than a server");
  }
  check_secret(text);
  check_secret(oci::base64_encode(as_bytes(text)));
}

}  // namespace
}  // namespace imsy::snapshotter

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  imsy::snapshotter::fuzz({reinterpret_cast<const char*>(data), size});
  return 0;
}
