// Any bytes as what a registry sends in headers: challenges, redirect targets, Content-Range,
// Retry-After. No crash, and nothing is accepted that could carry us or a credential elsewhere.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "oci/address.h"
#include "oci/auth.h"
#include "oci/base64.h"
#include "oci/content_range.h"
#include "oci/retry.h"
#include "oci/url.h"

namespace imsy::oci {
namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "auth_fuzz: %s\n", what);
  std::abort();
}

void check_challenges(std::string_view text) {
  for (const Challenge& challenge : parse_challenges(text)) {
    require(!challenge.scheme.empty(), "a challenge has no scheme");
    for (const auto& [name, value] : challenge.parameters) {
      require(!name.empty() && value.size() <= text.size(), "a parameter came from nowhere");
    }
  }
}

void check_url(std::string_view text) {
  const auto base = parse_url("https://registry.example/v2/");
  const auto url = resolve_url(*base, text);
  if (!url) return;
  require(url->scheme == "https" || url->scheme == "http", "another scheme");
  require(!url->host.empty(), "no host");
  require(
      std::all_of(url->text.begin(), url->text.end(), [](char c) { return c > ' ' && c <= '~'; }),
      "a URL has characters that do not belong into a request");
  const auto again = parse_url(url->text);
  require(again && again->origin() == url->origin(), "a URL means another place when it is sent");
}

void check_content_range(std::string_view text) {
  const ContentRange wanted{100, 100, 1000};
  HttpResponse response;
  response.status = 206;
  response.headers.emplace_back("content-range", std::string(text));
  if (check_range(response, wanted, "fuzz")) {
    require(text == "bytes 100-199/1000", "another range was accepted");
  }
}

void fuzz(std::string_view text) {
  check_challenges(text);
  check_url(text);
  check_content_range(text);
  const auto delay = retry_after(text, 784111777);
  require(delay.count() >= 0 && delay <= kRetryDelayMax, "a delay is out of bounds");
  require(network_of(text) == network_of(text), "an address is in two networks");
  if (const auto decoded = base64_decode(text)) {
    require(base64_encode(as_bytes(*decoded)) == text, "two texts mean the same bytes");
  }
}

}  // namespace
}  // namespace imsy::oci

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  imsy::oci::fuzz({reinterpret_cast<const char*>(data), size});
  return 0;
}
