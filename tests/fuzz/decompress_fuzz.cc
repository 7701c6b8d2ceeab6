// Any bytes as a compressed layer: no crash, bounded output, and the same result in any steps.
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "oci/decompress.h"
#include "tests/fuzz/span_reader.h"

namespace imsy::oci {
namespace {

constexpr std::uint64_t kOutputLimit = 1u << 20;

struct Outcome {
  Bytes text;
  std::optional<Errc> error;
};

Outcome run(ByteSpan data, std::size_t input_step, std::size_t output_step) {
  SpanReader input(data, input_step);
  Outcome outcome;
  auto reader = decompress(input, {.output = kOutputLimit});
  if (!reader) {
    outcome.error = reader.error().code();
    return outcome;
  }
  Bytes buffer(output_step);
  for (;;) {
    const auto got = reader->content->read(buffer);
    if (!got) outcome.error = got.error().code();
    if (!got || *got == 0) return outcome;
    append(outcome.text, std::span(buffer).first(*got));
  }
}

// How much text comes before an error may depend on the steps, the rest may not.
void check(ByteSpan data) {
  const Outcome whole = run(data, SIZE_MAX, 1 << 16);
  const Outcome pieces = run(data, 3, 1000);
  const bool same = whole.error == pieces.error && (whole.error || whole.text == pieces.text);
  if (same && whole.text.size() <= kOutputLimit) return;
  std::fprintf(stderr, "decompress_fuzz: the result depends on the size of the reads\n");
  std::abort();
}

}  // namespace
}  // namespace imsy::oci

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  imsy::oci::check(std::as_bytes(std::span(data, size)));
  return 0;
}
