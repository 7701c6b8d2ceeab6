#include "common/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace imsy::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarn: return spdlog::level::warn;
    case Level::kError: return spdlog::level::err;
  }
  return spdlog::level::critical;
}

constexpr const char* kName = "imsy";

// What the fields of this thread add to its lines.
thread_local std::string fields;

bool is_plain(char c) {
  constexpr std::string_view kOthers = "_-./:@+";
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         kOthers.find(c) != std::string_view::npos;
}

}  // namespace

Field::Field(std::string_view name, std::string_view value) : before_(fields.size()) {
  if (value.empty()) return;
  fields += ' ';
  fields += name;
  fields += '=';
  if (std::ranges::all_of(value, is_plain)) {
    fields += value;
    return;
  }
  fields += '"';
  for (const char c : value) {
    if (c == '"' || c == '\\') fields += '\\';
    fields += c;
  }
  fields += '"';
}

Field::~Field() {
  fields.resize(before_);
}

Status configure(std::string_view level) {
  const auto parsed = spdlog::level::from_str(std::string(level));
  if (parsed == spdlog::level::off && level != "off") {
    return Error(Errc::kInvalid, "log level \"" + std::string(level) +
                                     "\" is unknown: use trace, debug, info, warn or error");
  }
  // Replacing a logger that other threads write to is not safe; its level can be changed any time.
  if (spdlog::default_logger_raw()->name() == kName) {
    spdlog::default_logger_raw()->set_level(parsed);
    return {};
  }
  auto logger = std::make_shared<spdlog::logger>(
      kName, std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%l%$ %v", spdlog::pattern_time_type::utc);
  logger->set_level(parsed);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  return {};
}

void write(Level level, fmt::string_view format, fmt::format_args args) {
  if (!spdlog::should_log(to_spdlog(level))) return;
  spdlog::log(to_spdlog(level), printable(fmt::vformat(format, args) + fields));
}

std::string printable(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string line;
  line.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f) {
      line += c;
    } else {
      line += "\\x";
      line += kDigits[byte >> 4];
      line += kDigits[byte & 15];
    }
  }
  return line;
}

}  // namespace imsy::log
