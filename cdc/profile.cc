#include "cdc/profile.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>

namespace imsy::cdc {
namespace {

constexpr std::string_view kFirstLine = "imsy-profile 1";

Error invalid(std::size_t line, const std::string& what) {
  return Error(Errc::kInvalid, "line " + std::to_string(line) + " of the profile: " + what);
}

// Takes the text up to the next `end` off the front of `rest`; all of it when there is none.
std::string_view take(std::string_view& rest, char end) {
  const std::size_t at = std::min(rest.find(end), rest.size());
  const auto taken = rest.substr(0, at);
  rest.remove_prefix(std::min(at + 1, rest.size()));
  return taken;
}

bool parse_number(std::string_view text, std::uint64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

// Bytes that would end a line or a word, and the backslash itself, are written \ooo, in octal.
bool is_escaped(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte <= 0x20 || byte == 0x7F || c == '\\';
}

std::string escape(std::string_view path) {
  std::string text;
  for (const char c : path) {
    if (!is_escaped(c)) {
      text += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    text += '\\';
    for (const int shift : {6, 3, 0}) text += static_cast<char>('0' + (byte >> shift & 7));
  }
  return text;
}

bool unescape(std::string_view text, std::string& path) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      if (is_escaped(text[i])) return false;
      path += text[i];
      continue;
    }
    if (i + 3 >= text.size() || text[i + 1] > '3') return false;
    int byte = 0;
    for (std::size_t k = 1; k <= 3; ++k) {
      if (!is_octal(text[i + k])) return false;
      byte = byte * 8 + (text[i + k] - '0');
    }
    path += static_cast<char>(byte);
    i += 3;
  }
  return true;
}

}  // namespace

Status Profile::add(Access access) {
  if (access.path.empty() || access.path.starts_with('/') ||
      access.path.find('\0') != std::string::npos) {
    return Error(Errc::kInvalid, "this can be no path of a file");
  }
  if (access.path.size() > kPathLimit) {
    return Error(Errc::kInvalid, "the path is longer than 4096 bytes");
  }
  if (access.length > ~access.offset) return Error(Errc::kInvalid, "the range is too large");
  if (accesses_.size() >= kAccessLimit) {
    return Error(Errc::kInvalid, "more than " + std::to_string(kAccessLimit) + " accesses");
  }
  accesses_.push_back(std::move(access));
  return {};
}

Result<Profile> Profile::parse(std::string_view text) {
  if (text.size() > kTextLimit) return Error(Errc::kInvalid, "the profile is larger than 16 MiB");
  if (take(text, '\n') != kFirstLine) {
    return Error(Errc::kInvalid,
                 "this is no profile: it does not begin with \"" + std::string(kFirstLine) + "\"");
  }
  Profile profile;
  for (std::size_t number = 2; !text.empty(); ++number) {
    std::string_view line = take(text, '\n');
    if (line.empty() || line.starts_with('#')) continue;
    Access access;
    if (!parse_number(take(line, ' '), access.offset) ||
        !parse_number(take(line, ' '), access.length)) {
      return invalid(number, "offset, length and path were expected");
    }
    line.remove_prefix(std::min(line.find_first_not_of('/'), line.size()));
    if (!unescape(line, access.path)) {
      return invalid(number, "a space, control character or backslash must be written \\ooo");
    }
    if (auto added = profile.add(std::move(access)); !added) {
      return invalid(number, added.error().message());
    }
  }
  return profile;
}

std::string Profile::to_text() const {
  std::string text(kFirstLine);
  text += '\n';
  for (const Access& access : accesses_) {
    text += std::to_string(access.offset) + ' ' + std::to_string(access.length) + ' ' +
            escape(access.path) + '\n';
  }
  return text;
}

Profile Profile::merge(std::span<const Profile> profiles) {
  struct Places {
    double sum = 0;
    double count = 0;
  };
  std::map<std::tuple<std::string, std::uint64_t, std::uint64_t>, Places> all;
  for (const Profile& profile : profiles) {
    for (std::size_t i = 0; i < profile.accesses_.size(); ++i) {
      const Access& access = profile.accesses_[i];
      Places& places = all[{access.path, access.offset, access.length}];
      places.sum += static_cast<double>(i);
      places.count += 1;
    }
  }
  std::vector<std::pair<double, Access>> ordered;
  for (const auto& [key, places] : all) {
    const auto& [path, offset, length] = key;
    ordered.push_back({places.sum / places.count, {path, offset, length}});
  }
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  Profile merged;
  for (auto& [mean, access] : ordered) {
    if (merged.accesses_.size() == kAccessLimit) break;
    merged.accesses_.push_back(std::move(access));
  }
  return merged;
}

}  // namespace imsy::cdc
