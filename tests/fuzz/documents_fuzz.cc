// Any bytes as a manifest, an index and an image config: no crash, bounded memory, and what was
// accepted is written as a document that is accepted and means the same.
#include <cstdio>
#include <cstdlib>
#include <string>

#include "oci/descriptor.h"

namespace imsy::oci {
namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "documents_fuzz: %s\n", what);
  std::abort();
}

Document document(std::string bytes) {
  Document made;
  made.digest = sha256(bytes);
  made.bytes = std::move(bytes);
  return made;
}

template <typename Parsed>
void check_round_trip(const Parsed& parsed, Result<Parsed> (*parse)(const Document&)) {
  const std::string text = parsed.to_json().dump();
  const auto again = parse(document(text));
  require(again.has_value(), "what was written is not accepted");
  require(again->to_json().dump() == text, "what was written reads differently");
}

void fuzz(const std::string& text) {
  if (const auto json = parse_json(text, "fuzz")) {
    const std::string written = json->dump();
    const auto again = parse_json(written, "fuzz");
    require(again && *again == *json, "JSON reads differently after it was written");
  }
  const Document input = document(text);
  if (const auto manifest = parse_manifest(input)) check_round_trip(*manifest, &parse_manifest);
  if (const auto index = parse_index(input)) check_round_trip(*index, &parse_index);
  if (const auto config = parse_config(text)) {
    require(config->json.is_object(), "the config is no object");
  }
}

}  // namespace
}  // namespace imsy::oci

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  imsy::oci::fuzz(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
