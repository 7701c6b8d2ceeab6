// Any bytes as a list of chunks: what is accepted is written back as it was.
#include <cstdio>
#include <cstdlib>

#include "cli/seed/list.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using imsy::as_text;
  const auto text = std::as_bytes(std::span(data, size));
  const auto chunks = imsy::cli::seed::parse_list(text);
  if (!chunks) return 0;
  if (imsy::cli::seed::format_list({chunks->begin(), chunks->end()}) != as_text(text)) {
    std::fprintf(stderr, "seed_list_fuzz: the list reads back differently\n");
    std::abort();
  }
  return 0;
}
