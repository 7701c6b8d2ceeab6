#include "cli/seed/list.h"

namespace imsy::cli::seed {

std::string format_list(const std::deque<Digest>& chunks) {
  std::string text;
  text.reserve(chunks.size() * kListLineSize);
  for (const Digest& chunk : chunks) {
    text += chunk.hex();
    text += '\n';
  }
  return text;
}

Result<std::vector<Digest>> parse_list(ByteSpan text) {
  std::vector<Digest> chunks;
  chunks.reserve(text.size() / kListLineSize);
  std::string_view rest = as_text(text);
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, kListLineSize);
    auto chunk = Digest::parse_hex(line.substr(0, kListLineSize - 1));
    if (!chunk || line.back() != '\n') {
      return Error(Errc::kInvalid, "not a list of chunks: line " +
                                       std::to_string(chunks.size() + 1) +
                                       " is not 64 lower-case hexadecimal digits");
    }
    chunks.push_back(*chunk);
    rest.remove_prefix(line.size());
  }
  return chunks;
}

}  // namespace imsy::cli::seed
