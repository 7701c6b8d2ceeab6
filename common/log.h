// Logging: one line per event on stderr, levels, no secrets.
//
// A line is "<time> <level> <message> key=value ...". Never log credentials, tokens or the query
// part of a URL. An error is logged where it is handled, not where it passes.
// Threads: any.
#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>

#include "common/result.h"

namespace imsy::log {

// Call first in main, before other threads exist, and again at any time for another level. `level`:
// trace, debug, info, warn, error. kInvalid for another word.
Status configure(std::string_view level);

// As long as it lives, every line that this thread writes ends with ` name=value`. Belongs to its
// thread; of several the last one made goes first.
class Field {
 public:
  // A value with other characters than those of names and paths is quoted; an empty one is left
  // out.
  Field(std::string_view name, std::string_view value);
  ~Field();
  Field(const Field&) = delete;
  Field& operator=(const Field&) = delete;

 private:
  const std::size_t before_;
};

// `text` with control characters as \xNN: an error may quote bytes from a registry or a label, and
// those must not make lines of their own.
std::string printable(std::string_view text);

enum class Level { kDebug, kInfo, kWarn, kError };

// What the functions below call; formats only what is going to be written.
void write(Level level, fmt::string_view format, fmt::format_args args);

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kDebug, format, fmt::make_format_args(args...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kInfo, format, fmt::make_format_args(args...));
}
template <typename... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kWarn, format, fmt::make_format_args(args...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::kError, format, fmt::make_format_args(args...));
}

}  // namespace imsy::log
