// Recordings: what is accepted names chunks of the image, and nothing else.

#include <cstdint>

#include "cdc/recording.h"
#include "tests/support/image_maker.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto image = imsy::test::ImageMaker()
                                .file("usr/bin/tool", imsy::test::random_bytes(600'000, 1))
                                .file("etc/one", "one")
                                .file("etc/two", "two")
                                .make();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto profile = imsy::cdc::profile_of(text, *image.manifest);
  if (!profile) {
    if (profile.error().code() != imsy::Errc::kInvalid) __builtin_trap();
    return 0;
  }
  for (const auto& access : profile->accesses()) {
    const auto& content = image.files.at(access.path);
    if (access.length == 0 || access.offset + access.length > content.size()) __builtin_trap();
  }
  return 0;
}
