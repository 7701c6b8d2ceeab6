#include "common/http/range.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <system_error>

namespace imsy::http {
namespace {

// Digits only; a number that is too large for us is the largest we have.
std::optional<std::uint64_t> parse_number(std::string_view digits) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (end != digits.data() + digits.size()) return std::nullopt;
  if (error == std::errc::result_out_of_range) return std::numeric_limits<std::uint64_t>::max();
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::string_view trim(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

bool is_bytes_unit(std::string_view unit) {
  constexpr std::string_view kUnit = "bytes";
  return std::equal(unit.begin(), unit.end(), kUnit.begin(), kUnit.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a + 32 : a) == b; });
}

}  // namespace

RangeAnswer answer_range(std::string_view field, std::uint64_t size) {
  const RangeAnswer whole{RangeAnswer::Kind::kWhole, 0, size};
  const RangeAnswer unsatisfiable{RangeAnswer::Kind::kUnsatisfiable, 0, 0};
  field = trim(field);
  const auto equals = field.find('=');
  if (equals == std::string_view::npos || !is_bytes_unit(field.substr(0, equals))) return whole;
  const std::string_view range = trim(field.substr(equals + 1));
  const auto dash = range.find('-');
  if (dash == std::string_view::npos) return whole;
  const auto first = parse_number(range.substr(0, dash));
  const auto last = parse_number(range.substr(dash + 1));
  const bool has_first = dash != 0;
  const bool has_last = dash + 1 != range.size();
  if ((has_first && !first) || (has_last && !last) || (!has_first && !has_last)) return whole;
  if (!has_first) {
    if (*last == 0 || size == 0) return unsatisfiable;
    const std::uint64_t length = std::min(*last, size);
    return {RangeAnswer::Kind::kPart, size - length, length};
  }
  if (has_last && *first > *last) return whole;
  if (*first >= size) return unsatisfiable;
  const std::uint64_t end = has_last ? std::min(*last, size - 1) : size - 1;
  return {RangeAnswer::Kind::kPart, *first, end - *first + 1};
}

}  // namespace imsy::http
