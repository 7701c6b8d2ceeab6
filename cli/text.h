// Numbers as people read them, and text as programs do.
//
// Threads: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace imsy::cli {

// In units of 1000: "0 B", "999 B", "1.5 kB", "318.2 MB".
std::string human_bytes(std::uint64_t bytes);

// "12.3 %"; "0.0 %" of nothing.
std::string percent(std::uint64_t part, std::uint64_t whole);

// Whether JSON can carry the text as it is.
bool is_utf8(std::string_view text);

// A line of a table: a name, two columns of figures, and what they mean.
std::string table_line(std::string_view name, std::string_view first, std::string_view second = "",
                       std::string_view meaning = "");

}  // namespace imsy::cli
