// Logging: one line per event on stderr, levels, no secrets.
//
// A line is "<time> <level> <message> key=value ...". Never log credentials, tokens or the query
// part of a URL. An error is logged where it is handled, not where it passes.
// Threads: any.
#pragma once

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <string>
#include <string_view>

#include "common/result.h"

namespace imsy::log {

// Call once in main. `level`: trace, debug, info, warn, error. kInvalid for another word.
Status configure(std::string_view level);

// `text` with control characters as \xNN: an error may quote bytes from a registry or a label, and
// those must not make lines of their own.
std::string printable(std::string_view text);

template <typename... Args>
void write(spdlog::level::level_enum level, fmt::format_string<Args...> text, Args&&... args) {
  if (!spdlog::should_log(level)) return;
  spdlog::log(level, "{}", printable(fmt::format(text, std::forward<Args>(args)...)));
}
template <typename... Args>
void debug(fmt::format_string<Args...> text, Args&&... args) {
  write(spdlog::level::debug, text, std::forward<Args>(args)...);
}
template <typename... Args>
void info(fmt::format_string<Args...> text, Args&&... args) {
  write(spdlog::level::info, text, std::forward<Args>(args)...);
}
template <typename... Args>
void warn(fmt::format_string<Args...> text, Args&&... args) {
  write(spdlog::level::warn, text, std::forward<Args>(args)...);
}
template <typename... Args>
void error(fmt::format_string<Args...> text, Args&&... args) {
  write(spdlog::level::err, text, std::forward<Args>(args)...);
}

}  // namespace imsy::log
