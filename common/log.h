// Logging: one line per event on stderr, levels, no secrets.
//
// A line is "<time> <level> <message> key=value ...". Never log credentials, tokens or the query
// part of a URL. An error is logged where it is handled, not where it passes.
// Threads: any.
#pragma once

#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <string_view>

#include "common/result.h"

namespace imsy::log {

// Call once in main. `level`: trace, debug, info, warn, error. kInvalid for another word.
Status configure(std::string_view level);

template <typename... Args>
void debug(fmt::format_string<Args...> text, Args&&... args) {
  spdlog::debug(text, std::forward<Args>(args)...);
}
template <typename... Args>
void info(fmt::format_string<Args...> text, Args&&... args) {
  spdlog::info(text, std::forward<Args>(args)...);
}
template <typename... Args>
void warn(fmt::format_string<Args...> text, Args&&... args) {
  spdlog::warn(text, std::forward<Args>(args)...);
}
template <typename... Args>
void error(fmt::format_string<Args...> text, Args&&... args) {
  spdlog::error(text, std::forward<Args>(args)...);
}

}  // namespace imsy::log
