#include "oci/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <memory>

#include "oci/ascii.h"

namespace imsy::oci {
namespace {

constexpr std::size_t kUrlLimit = 16u << 10;  // bytes; signed storage URLs have 1 to 2 KiB

struct HandleDeleter {
  void operator()(CURLU* handle) const { curl_url_cleanup(handle); }
};
using Handle = std::unique_ptr<CURLU, HandleDeleter>;

std::string part(const Handle& url, CURLUPart which, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url.get(), which, &text, flags) != CURLUE_OK) return {};
  std::string result(text);
  curl_free(text);
  return result;
}

// A host as DNS and RFC 3986 have them; libcurl also takes percent-encoded ones, whose decoded form
// may be anything.
bool is_host(std::string_view host) {
  return !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           std::string_view("-._[]:").find(c) != std::string_view::npos;
  });
}

// Sets the URL, or resolves it against the one that is set already.
Status set_url(const Handle& url, std::string_view text) {
  if (!url) return Error(Errc::kInternal, "out of memory");
  const bool clean =
      !text.empty() && text.size() <= kUrlLimit &&
      std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (!clean || curl_url_set(url.get(), CURLUPART_URL, std::string(text).c_str(),
                             CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK) {
    return Error(Errc::kInvalid, "no valid URL");
  }
  return {};
}

Result<Url> take_apart(const Handle& url) {
  Url parsed;
  parsed.scheme = lowered(part(url, CURLUPART_SCHEME));
  if (parsed.scheme != "http" && parsed.scheme != "https") {
    return Error(Errc::kInvalid, "a URL must begin with http:// or https://");
  }
  if (!part(url, CURLUPART_USER).empty() || !part(url, CURLUPART_PASSWORD).empty()) {
    return Error(Errc::kInvalid, "a URL must not carry credentials");
  }
  curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
  parsed.host = lowered(part(url, CURLUPART_HOST));
  parsed.port = part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  parsed.path = part(url, CURLUPART_PATH);
  parsed.text = part(url, CURLUPART_URL);
  if (!is_host(parsed.host) || parsed.text.empty()) return Error(Errc::kInvalid, "no valid URL");
  return parsed;
}

}  // namespace

Result<Url> parse_url(std::string_view text) {
  const Handle url(curl_url());
  IMSY_TRY(set_url(url, text));
  return take_apart(url);
}

Result<Url> resolve_url(const Url& base, std::string_view reference) {
  const Handle url(curl_url());
  IMSY_TRY(set_url(url, base.text));
  IMSY_TRY(set_url(url, reference));
  return take_apart(url);
}

std::string with_query(std::string url, std::string_view name, std::string_view value) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  url += url.find('?') == std::string::npos ? '?' : '&';
  url += name;
  url += '=';
  for (const char c : value) {
    const bool unreserved = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                            (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_' || c == '~';
    if (unreserved) {
      url += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      url += '%';
      url += kDigits[byte >> 4];
      url += kDigits[byte & 15];
    }
  }
  return url;
}

}  // namespace imsy::oci
