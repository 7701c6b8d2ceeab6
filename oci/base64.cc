#include "oci/base64.h"

#include <algorithm>
#include <cstdint>

namespace imsy::oci {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

std::string base64_encode(ByteSpan data) {
  std::string text;
  text.reserve((data.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < data.size(); at += 3) {
    const std::size_t count = std::min<std::size_t>(3, data.size() - at);
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      group = group << 8 | (i < count ? std::to_integer<std::uint32_t>(data[at + i]) : 0);
    }
    for (std::size_t i = 0; i < 4; ++i) {
      text.push_back(i <= count ? kAlphabet[group >> (18 - 6 * i) & 63] : '=');
    }
  }
  return text;
}

Result<std::string> base64_decode(std::string_view text) {
  const Error invalid(Errc::kInvalid, "no valid base64 text");
  if (text.size() % 4 != 0) return invalid;
  std::size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  std::string data;
  data.reserve(text.size() / 4 * 3);
  std::uint32_t group = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::size_t value = 0;
    if (i < text.size() - padding) {
      value = kAlphabet.find(text[i]);
      if (value == std::string_view::npos) return invalid;
    }
    group = group << 6 | static_cast<std::uint32_t>(value);
    if (i % 4 != 3) continue;
    for (int shift = 16; shift >= 0; shift -= 8) data.push_back(static_cast<char>(group >> shift));
    group = 0;
  }
  for (std::size_t i = 0; i < padding; ++i) {
    if (data.back() != 0) return invalid;  // bits that no byte holds
    data.pop_back();
  }
  return data;
}

}  // namespace imsy::oci
