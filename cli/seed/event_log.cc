#include "cli/seed/event_log.h"

#include <ctime>

namespace imsy::cli::seed {

void EventLog::line(std::string_view text) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  ::localtime_r(&now, &local);
  char stamp[32];
  const std::size_t size = std::strftime(stamp, sizeof stamp, "%Y/%m/%d %H:%M:%S ", &local);
  MutexLock lock(mu_);
  to_ << std::string_view(stamp, size) << text << '\n' << std::flush;
}

std::string quote(std::string_view text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string result = "\"";
  for (const char c : text) {
    const auto value = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (value >= 0x20 && value < 0x7f) {
      result += c;
    } else {
      result += "\\x";
      result += kDigits[value >> 4];
      result += kDigits[value & 15];
    }
  }
  return result + '"';
}

}  // namespace imsy::cli::seed
