// Anchors: a text that is accepted is the only text of its value.

#include <cstdint>

#include "cdc/anchor.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto anchor = imsy::cdc::Anchor::parse(text);
  if (!anchor) {
    if (anchor.error().code() != imsy::Errc::kInvalid) __builtin_trap();
  } else if (anchor->to_text() != text || !anchor->validate()) {
    __builtin_trap();
  }
  return 0;
}

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t size_max);

// Nobody guesses two digests: an empty input becomes an anchor.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t size_max, unsigned /*seed*/) {
  imsy::cdc::Anchor anchor;
  anchor.header_size = 296;
  anchor.manifest_size = 4000;
  anchor.manifest_offset = 100;
  anchor.data_layers = {{imsy::sha256("blob"), 5000, imsy::sha256("tar")}};
  const std::string text = anchor.to_text();
  if (size < 10 && text.size() <= size_max) {
    text.copy(reinterpret_cast<char*>(data), text.size());
    return text.size();
  }
  return LLVMFuzzerMutate(data, size, size_max);
}
