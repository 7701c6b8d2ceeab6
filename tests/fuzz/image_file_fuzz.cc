// Files of images: what is accepted is exactly what would be written.

#include <algorithm>
#include <cstdint>
#include <string>

#include "cas/image_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const imsy::ByteSpan file(reinterpret_cast<const std::byte*>(data), size);
  const auto image = imsy::cas::read_image_file(file);
  if (!image) {
    if (image.error().code() != imsy::Errc::kCorrupt) __builtin_trap();
    return 0;
  }
  const auto again = imsy::cas::write_image_file(*image);
  if (!again || !std::equal(again->begin(), again->end(), file.begin(), file.end())) {
    __builtin_trap();
  }
  return 0;
}

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t size_max);

// Nobody guesses a digest: texts are drawn from the input, and the file is written around them.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t size_max, unsigned seed) {
  const std::size_t changed = LLVMFuzzerMutate(data, size, size_max);
  if (seed % 2 == 0) return changed;
  const std::string text(reinterpret_cast<const char*>(data), changed);
  const std::size_t cut = changed / 2;
  const auto file = imsy::cas::write_image_file(
      {text.substr(0, cut), text.substr(cut), imsy::as_bytes("manifest")});
  if (!file || file->size() > size_max) return changed;
  std::copy(file->begin(), file->end(), reinterpret_cast<std::byte*>(data));
  return file->size();
}
