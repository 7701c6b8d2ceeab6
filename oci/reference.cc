#include "oci/reference.h"

#include <algorithm>

namespace imsy::oci {
namespace {

constexpr std::string_view kDefaultHost = "docker.io";
constexpr std::string_view kLegacyHost = "index.docker.io";
constexpr std::string_view kOfficial = "library/";
constexpr std::string_view kDefaultTag = "latest";
constexpr std::size_t kHostNameLimit = 253;  // RFC 1035
constexpr std::size_t kPortLimit = 5;        // digits
constexpr std::size_t kRepositoryLimit = 255;
constexpr std::size_t kTagLimit = 128;
// Host, repository, tag and digest at their longest; what is longer is not worth reading.
constexpr std::size_t kTextLimit = 1024;

bool is_lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter_or_digit(char c) {
  return is_lower(c) || is_upper(c) || is_digit(c);
}
bool is_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

template <typename Predicate>
bool all(std::string_view text, Predicate predicate) {
  return !text.empty() && std::all_of(text.begin(), text.end(), predicate);
}

// The text before the first `separator`; `rest` keeps what follows it.
std::string_view next_part(std::string_view& rest, char separator) {
  const std::size_t at = rest.find(separator);
  const std::string_view part = rest.substr(0, at);
  rest = at == std::string_view::npos ? std::string_view() : rest.substr(at + 1);
  return part;
}

bool is_host_component(std::string_view text) {
  return all(text, [](char c) { return is_letter_or_digit(c) || c == '-'; }) &&
         text.front() != '-' && text.back() != '-';
}

bool is_host_name(std::string_view text) {
  if (text.empty() || text.size() > kHostNameLimit || text.back() == '.') return false;
  while (!text.empty()) {
    if (!is_host_component(next_part(text, '.'))) return false;
  }
  return true;
}

// host [":" port]; the host is a name, an IPv4 address, or an IPv6 address in brackets.
bool is_host(std::string_view text) {
  std::size_t end = text.find(':');
  if (text.starts_with('[')) {
    const std::size_t bracket = text.find(']');
    if (bracket == std::string_view::npos) return false;
    const auto address = text.substr(1, bracket - 1);
    if (bracket > kHostNameLimit || !all(address, [](char c) { return is_hex(c) || c == ':'; }))
      return false;
    end = bracket + 1;
    if (end == text.size()) return true;
    if (text[end] != ':') return false;
  } else if (!is_host_name(text.substr(0, end))) {
    return false;
  }
  if (end == std::string_view::npos) return true;
  const std::string_view port = text.substr(end + 1);
  return port.size() <= kPortLimit && all(port, is_digit);
}

// Runs of lower-case letters and digits, separated by ".", "_", "__" or any number of "-".
bool is_path_component(std::string_view text) {
  const auto is_word = [](char c) { return is_lower(c) || is_digit(c); };
  while (!text.empty()) {
    const auto word_end = std::find_if_not(text.begin(), text.end(), is_word);
    if (word_end == text.begin()) return false;
    text.remove_prefix(static_cast<std::size_t>(word_end - text.begin()));
    if (text.empty()) return true;
    const auto next_word = std::find_if(text.begin(), text.end(), is_word);
    const auto separator = text.substr(0, static_cast<std::size_t>(next_word - text.begin()));
    const bool dashes = all(separator, [](char c) { return c == '-'; });
    if (!dashes && separator != "." && separator != "_" && separator != "__") return false;
    text.remove_prefix(separator.size());
  }
  return false;
}

// Whether the first component of a name is a host rather than a part of the repository.
bool names_host(std::string_view first) {
  return first == "localhost" || first.find_first_of(".:") != std::string_view::npos ||
         std::any_of(first.begin(), first.end(), is_upper);
}

// The text may come from a label that anybody wrote: it must not break the line of a log.
Error invalid(std::string_view text, std::string_view what) {
  std::string shown(text);
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return Error(Errc::kInvalid, "image reference \"" + shown + "\": " + std::string(what));
}

// Splits "[host/]rest" and fills in docker.io and library/ as Docker does.
void split_host(std::string_view text, Reference& reference, std::string& rest) {
  const std::size_t slash = text.find('/');
  const std::string_view first = text.substr(0, slash);
  if (slash == std::string_view::npos || !names_host(first)) {
    reference.host = kDefaultHost;
    rest = text;
  } else {
    reference.host = first == kLegacyHost ? kDefaultHost : first;
    rest = text.substr(slash + 1);
  }
  if (reference.host == kDefaultHost && rest.find('/') == std::string::npos) {
    rest.insert(0, kOfficial);
  }
}

}  // namespace

bool is_repository(std::string_view text) {
  if (text.empty() || text.size() > kRepositoryLimit || text.back() == '/') return false;
  while (!text.empty()) {
    if (!is_path_component(next_part(text, '/'))) return false;
  }
  return true;
}

bool is_tag(std::string_view text) {
  return text.size() <= kTagLimit && text.find_first_of(".-") != 0 && all(text, [](char c) {
           return is_letter_or_digit(c) || c == '_' || c == '.' || c == '-';
         });
}

Result<Reference> Reference::parse(std::string_view text) {
  if (text.size() > kTextLimit) {
    return Error(Errc::kInvalid,
                 "image reference: longer than " + std::to_string(kTextLimit) + " characters");
  }
  if (text.size() == 2 * Digest::kSize && Digest::parse_hex(text)) {
    return invalid(text, "64 hexadecimal digits could be an image id; give a repository name");
  }
  Reference reference;
  std::string rest;
  split_host(text, reference, rest);
  if (!is_host(reference.host)) {
    return invalid(text, "the host must be a name or address, with an optional port");
  }
  std::string_view name = rest;
  if (const std::size_t at = name.find('@'); at != std::string_view::npos) {
    auto digest = Digest::parse(name.substr(at + 1));
    if (!digest) return invalid(text, digest.error().message());
    reference.digest = *digest;
    name = name.substr(0, at);
  }
  if (const std::size_t colon = name.find(':'); colon != std::string_view::npos) {
    reference.tag = name.substr(colon + 1);
    name = name.substr(0, colon);
    if (!is_tag(reference.tag)) {
      return invalid(text,
                     "a tag has 1 to 128 letters, digits, '_', '.' or '-', and does not begin "
                     "with '.' or '-'");
    }
  } else if (!reference.digest) {
    reference.tag = kDefaultTag;
  }
  if (std::any_of(name.begin(), name.end(), is_upper)) {
    return invalid(text, "the repository must be in lower case");
  }
  if (name.size() > kRepositoryLimit) {
    return invalid(text, "the repository is longer than 255 characters");
  }
  if (!is_repository(name)) {
    return invalid(text,
                   "a repository has components of lower-case letters and digits, separated by "
                   "'.', '_', '__' or '-', with '/' between them");
  }
  reference.repository = name;
  return reference;
}

std::string Reference::name() const {
  return host + "/" + repository;
}

std::string Reference::to_string() const {
  std::string text = name();
  if (!tag.empty()) text += ":" + tag;
  if (digest) text += "@" + digest->to_string();
  return text;
}

std::string Reference::object() const {
  return digest ? digest->to_string() : tag;
}

}  // namespace imsy::oci
