// Profiles: what is accepted is written as a text that is read as the same profile.

#include <cstdint>

#include "cdc/profile.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto profile = imsy::cdc::Profile::parse(text);
  if (!profile) {
    if (profile.error().code() != imsy::Errc::kInvalid) __builtin_trap();
    return 0;
  }
  const auto again = imsy::cdc::Profile::parse(profile->to_text());
  if (!again || again->accesses() != profile->accesses()) __builtin_trap();
  const imsy::cdc::Profile both[] = {*profile, *again};
  const auto merged = imsy::cdc::Profile::merge(both);
  if (merged.accesses().size() > profile->accesses().size()) __builtin_trap();
  return 0;
}
