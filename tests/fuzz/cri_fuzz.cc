// Any bytes as messages of the kubelet: no crash, and a login is for a place that can be named.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "oci/reference.h"
#include "snapshotter/credentials/cri_logins.h"

namespace imsy::snapshotter {
namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "cri_fuzz: %s\n", what);
  std::abort();
}

void fuzz(std::string_view bytes) {
  CriLogins logins;
  logins.image_removed(bytes);
  const auto request = parse_pull_request(bytes);
  if (!request) {
    require(request.error().code() == Errc::kInvalid, "another error");
    return;
  }
  require(oci::is_repository(request->place.repository), "no repository");
  require(!request->place.host.empty(), "no host");
  if (request->login) require(!request->login->empty(), "a login without anything");
  const auto pull = logins.pull_began(*request);
  require(logins.find(request->place)->size() == (request->login ? 1 : 0), "lost during its pull");
  logins.pull_ended(pull, bytes);
  require(logins.size() == (request->login ? 1 : 0), "lost after its pull");
}

}  // namespace
}  // namespace imsy::snapshotter

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  imsy::snapshotter::fuzz({reinterpret_cast<const char*>(data), size});
  return 0;
}
