// Any bytes as a hosts.toml: no crash, and what is understood is a list of hosts that can be asked.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "oci/hosts_file.h"
#include "oci/url.h"

namespace imsy::oci {
namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "hosts_fuzz: %s\n", what);
  std::abort();
}

void check_entry(const HostEntry& entry) {
  const Host& host = entry.host;
  if (!host.root.empty()) {
    const auto url = parse_url(host.root);
    require(url.has_value(), "a root is no URL");
    require(host.root.find_first_of("?#") == std::string::npos, "a root is more than a place");
    require(!host.root.ends_with('/'), "a root ends with a slash");
  }
  require(host.connect_timeout.count() > 0, "there is no time to connect in");
  require(host.tls.authorities.empty() && host.tls.certificate.empty(), "a file was read");
  for (const auto& path : entry.authorities) require(path.is_absolute(), "a path begins nowhere");
  require(entry.certificate.empty() || entry.certificate.is_absolute(), "a path begins nowhere");
  require(entry.key.empty() || entry.key.is_absolute(), "a path begins nowhere");
  require(entry.key.empty() || !entry.certificate.empty(), "a key without its certificate");
}

}  // namespace
}  // namespace imsy::oci

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto file = imsy::oci::parse_hosts_file(text, "/certs.d/registry.example");
  if (!file) {
    imsy::oci::require(file.error().code() == imsy::Errc::kInvalid, "another error");
    return 0;
  }
  imsy::oci::require(!file->entries.empty(), "nobody is asked");
  for (const auto& entry : file->entries) imsy::oci::check_entry(entry);
  return 0;
}
