// Any bytes as an image reference: no crash, and what is accepted is in its normal form, within its
// limits, and safe in a URL and on a line of a log.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "oci/reference.h"

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "reference_fuzz: %s\n", what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using imsy::oci::Reference;
  const auto parsed = Reference::parse({reinterpret_cast<const char*>(data), size});
  if (!parsed) {
    const std::string& message = parsed.error().message();
    require(
        std::all_of(message.begin(), message.end(), [](char c) { return c >= ' ' && c <= '~'; }),
        "the message is not one printable line");
    return 0;
  }
  require(imsy::oci::is_repository(parsed->repository), "the repository is none");
  require(parsed->tag.empty() || imsy::oci::is_tag(parsed->tag), "the tag is none");
  require(!parsed->tag.empty() || parsed->digest, "neither tag nor digest");
  require(parsed->host.find('/') == std::string::npos, "the host has a slash");
  const auto again = Reference::parse(parsed->to_string());
  require(again && again->to_string() == parsed->to_string(), "the normal form is another one");
  require(again->host == parsed->host && again->repository == parsed->repository &&
              again->tag == parsed->tag && again->digest == parsed->digest,
          "the normal form means something else");
  return 0;
}
