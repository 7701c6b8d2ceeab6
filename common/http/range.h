// Which part of a file a Range header field asks for.
//
// Threads: free function, any thread.
// Source: RFC 9110, section 14.
#pragma once

#include <cstdint>
#include <string_view>

namespace imsy::http {

struct RangeAnswer {
  enum class Kind : std::uint8_t {
    kWhole,          // 200: no range, or one that is to be ignored
    kPart,           // 206
    kUnsatisfiable,  // 416
  };
  Kind kind = Kind::kWhole;
  std::uint64_t offset = 0;  // kWhole and kPart: the bytes to send
  std::uint64_t length = 0;
};

// `field` is the value of the Range field, "" for none; `size` that of the file. One range of bytes
// is honoured. Other units, several ranges and malformed values are ignored, as the RFC allows.
RangeAnswer answer_range(std::string_view field, std::uint64_t size);

}  // namespace imsy::http
