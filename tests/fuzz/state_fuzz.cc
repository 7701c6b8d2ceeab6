// What programs of a node leave for others, or for their next start: any text is read or refused.

#include <cstdint>

#include "cli/stat.h"
#include "snapshotter/scrubber.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using imsy::snapshotter::ScrubState;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string kept = ScrubState::parse(text).to_text();
  if (ScrubState::parse(kept).to_text() != kept) __builtin_trap();
  const auto traffic = imsy::cli::parse_traffic(text, "stats.json");
  if (!traffic && traffic.error().code() != imsy::Errc::kInvalid) __builtin_trap();
  if (traffic) imsy::cli::to_text(*traffic);
  return 0;
}
