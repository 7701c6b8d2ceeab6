#include "oci/retry.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <string>

namespace imsy::oci {

using std::chrono::milliseconds;

bool is_busy(int status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

bool is_transient(Errc code) {
  return code == Errc::kUnavailable || code == Errc::kTimeout;
}

milliseconds retry_after(std::string_view header, std::int64_t unix_now) {
  constexpr std::int64_t kMaxSeconds = kRetryDelayMax.count() / 1000;
  if (header.empty() || header.size() > 64) return milliseconds(0);
  std::int64_t seconds = 0;
  const char* end = header.data() + header.size();
  const auto [at, problem] = std::from_chars(header.data(), end, seconds);
  if (at != end || problem == std::errc::invalid_argument) {
    const std::time_t date = curl_getdate(std::string(header).c_str(), nullptr);
    seconds = date < 0 ? 0 : date - unix_now;
  } else if (problem == std::errc::result_out_of_range) {
    seconds = header.front() == '-' ? 0 : kMaxSeconds;
  }
  return milliseconds(std::clamp<std::int64_t>(seconds, 0, kMaxSeconds) * 1000);
}

milliseconds Backoff::delay(unsigned retry) {
  const auto whole = std::min(kRetryDelayMax, first_ * (1 << std::clamp(retry, 1u, 16u)) / 2);
  std::uniform_int_distribution<milliseconds::rep> part(whole.count() / 2, whole.count());
  return milliseconds(part(random_));
}

}  // namespace imsy::oci
