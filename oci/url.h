// Url: an absolute http or https URL, taken apart just far enough to decide who may see it.
//
// Source: RFC 3986 as libcurl reads it, so that what we check is what is sent.
// Threads: plain values and free functions.
#pragma once

#include <string>
#include <string_view>

#include "common/result.h"

namespace imsy::oci {

struct Url {
  std::string text;    // as it is sent, without a fragment
  std::string scheme;  // "http" or "https"
  std::string host;    // lower case; IPv6 addresses in brackets
  std::string port;    // always there
  std::string path;    // begins with "/"

  // Scheme, host and port: who gets to see a credential.
  std::string origin() const { return scheme + "://" + host + ":" + port; }
  // Without the query, which may hold a signature: for messages.
  std::string shown() const { return origin() + path; }
};

// kInvalid: malformed, another scheme, characters that are not printable ASCII, or credentials in
// the URL. No message quotes the URL.
Result<Url> parse_url(std::string_view text);
// What a Location header or a link means on a page at `base`; absolute or relative.
Result<Url> resolve_url(const Url& base, std::string_view reference);
// Appends "name=value" to the query; the value is percent-encoded.
std::string with_query(std::string url, std::string_view name, std::string_view value);

}  // namespace imsy::oci
