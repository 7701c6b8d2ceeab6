// Filters of List: any bytes parse to a filter or to kInvalid, and a filter can be applied.

#include <cstdint>

#include "snapshotter/filter.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace imsy::snapshotter;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto filter = Filter::parse({text});
  if (!filter) return filter.error().code() == imsy::Errc::kInvalid ? 0 : (__builtin_trap(), 0);
  Info info;
  info.name = "default/1/sha256:abc";
  info.labels = {{"l", "1"}, {"containerd.io/snapshot.ref", "sha256:abc"}};
  filter->matches(info);
  return 0;
}
