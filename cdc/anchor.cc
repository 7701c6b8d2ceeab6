#include "cdc/anchor.h"

#include <charconv>

#include "cdc/tree_rules.h"

namespace imsy::cdc {
namespace {

constexpr std::string_view kFirstWord = "imsy-anchor";
constexpr std::string_view kAnchorVersion = "1";

Error wrong(std::size_t line, std::string_view what) {
  return Error(Errc::kInvalid, "anchor, line " + std::to_string(line) + ": " + std::string(what));
}

// The words of one line, separated by single spaces: two spaces make an empty word.
std::vector<std::string_view> split(std::string_view line) {
  std::vector<std::string_view> words;
  for (;;) {
    const std::size_t space = line.find(' ');
    words.push_back(line.substr(0, space));
    if (space == std::string_view::npos) return words;
    line.remove_prefix(space + 1);
  }
}

bool parse_digest(std::string_view word, Digest& digest) {
  auto parsed = Digest::parse(word);
  if (parsed) digest = *parsed;
  return parsed.has_value();
}

// Decimal, without sign or leading zeros.
template <typename T>
bool parse_number(std::string_view word, T& value) {
  if (word.size() > 1 && word.front() == '0') return false;
  const char* const behind = word.data() + word.size();
  const auto [end, error] = std::from_chars(word.data(), behind, value);
  return error == std::errc() && end == behind;
}

Status parse_first(std::string_view line) {
  const auto words = split(line);
  if (words.size() != 2 || words[0] != kFirstWord) return wrong(1, "must be \"imsy-anchor 1\"");
  if (words[1] != kAnchorVersion) {
    return wrong(1, "format version " + in_quotes(words[1].substr(0, 20)) +
                        " is unknown, this program knows version 1: use a newer imsy");
  }
  return {};
}

Status parse_manifest(std::string_view line, Anchor& anchor) {
  const auto words = split(line);
  if (words.size() != 6 || words[0] != "manifest" || !parse_digest(words[1], anchor.manifest) ||
      !parse_number(words[2], anchor.header_size) ||
      !parse_number(words[3], anchor.manifest_size) ||
      !parse_number(words[4], anchor.manifest_offset) ||
      !parse_number(words[5], anchor.manifest_layer)) {
    return wrong(2, "must be \"manifest <digest> <header size> <size> <offset> <layer>\"");
  }
  return {};
}

Status parse_data(std::string_view line, std::size_t number, Anchor& anchor) {
  const auto words = split(line);
  Anchor::DataLayer layer;
  if (words.size() != 4 || words[0] != "data" || !parse_digest(words[1], layer.blob) ||
      !parse_number(words[2], layer.size) || !parse_digest(words[3], layer.diff_id)) {
    return wrong(number, "must be \"data <blob digest> <blob size> <diffID>\"");
  }
  anchor.data_layers.push_back(layer);
  return {};
}

}  // namespace

std::string Anchor::to_text() const {
  std::string text(kFirstWord);
  text += " " + std::string(kAnchorVersion) + "\n";
  text += "manifest " + manifest.to_string() + " " + std::to_string(header_size) + " " +
          std::to_string(manifest_size) + " " + std::to_string(manifest_offset) + " " +
          std::to_string(manifest_layer) + "\n";
  for (const DataLayer& layer : data_layers) {
    text += "data " + layer.blob.to_string() + " " + std::to_string(layer.size) + " " +
            layer.diff_id.to_string() + "\n";
  }
  return text;
}

Result<Anchor> Anchor::parse(std::string_view text) {
  if (text.size() > kAnchorTextLimit) {
    return Error(Errc::kInvalid,
                 "anchor: longer than " + std::to_string(kAnchorTextLimit) + " bytes");
  }
  Anchor anchor;
  std::size_t line = 0;
  while (!text.empty()) {
    ++line;
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return wrong(line, "does not end with a newline");
    const std::string_view content = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (line == 1) {
      IMSY_TRY(parse_first(content));
    } else if (line == 2) {
      IMSY_TRY(parse_manifest(content, anchor));
    } else {
      IMSY_TRY(parse_data(content, line, anchor));
    }
  }
  if (line < 3) return wrong(line + 1, "is missing");
  IMSY_TRY(anchor.validate());
  return anchor;
}

Status Anchor::validate() const {
  if (manifest_layer >= data_layers.size()) {
    return Error(Errc::kInvalid, "anchor: the CDC manifest is said to lie in data layer " +
                                     std::to_string(manifest_layer) + ", of " +
                                     std::to_string(data_layers.size()));
  }
  if (header_size == 0 || header_size > manifest_size) {
    return Error(Errc::kInvalid, "anchor: a header of " + std::to_string(header_size) +
                                     " bytes does not fit a CDC manifest of " +
                                     std::to_string(manifest_size) + " bytes");
  }
  const std::uint64_t blob_size = data_layers[manifest_layer].size;
  if (manifest_size > blob_size || manifest_offset > blob_size - manifest_size) {
    return Error(Errc::kInvalid, "anchor: the CDC manifest lies beyond the end of its blob of " +
                                     std::to_string(blob_size) + " bytes");
  }
  if (to_text().size() > kAnchorTextLimit) {
    return Error(Errc::kInvalid, "anchor: " + std::to_string(data_layers.size()) +
                                     " data layers do not fit into " +
                                     std::to_string(kAnchorTextLimit) + " bytes");
  }
  return {};
}

Digest chain_id(const Digest& parent, const Digest& diff_id) {
  return sha256(parent.to_string() + " " + diff_id.to_string());
}

}  // namespace imsy::cdc
