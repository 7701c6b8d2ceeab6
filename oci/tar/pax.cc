#include "oci/tar/pax.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace imsy::oci::tar {
namespace {

constexpr std::uint32_t kNsPerSecond = 1'000'000'000;

struct Record {
  std::string_view key;
  std::string_view value;
};

// Takes the first record off `text`. Nothing: malformed.
std::optional<Record> take_record(std::string_view& text) {
  const auto space = text.find(' ');
  if (space == std::string_view::npos) return std::nullopt;
  const auto length = parse_decimal(text.substr(0, space));
  if (!length || *length < 5 || *length > static_cast<std::int64_t>(text.size())) {
    return std::nullopt;
  }
  const auto end = static_cast<std::size_t>(*length);
  if (end <= space + 1 || text[end - 1] != '\n') return std::nullopt;
  const auto body = text.substr(space + 1, end - space - 2);
  const auto equals = body.find('=');
  if (equals == std::string_view::npos) return std::nullopt;
  const Record record{body.substr(0, equals), body.substr(equals + 1)};
  if (!valid_record(record.key, record.value)) return std::nullopt;
  text.remove_prefix(end);
  return record;
}

// Collects the pairs of sparse format 0.0 in their order: offset, length, offset, ...
class SparsePairs {
 public:
  static bool owns(std::string_view key) {
    return key == "GNU.sparse.offset" || key == "GNU.sparse.numbytes";
  }
  bool add(const Record& record) {
    const std::string_view expected = even_ ? "GNU.sparse.offset" : "GNU.sparse.numbytes";
    if (record.key != expected || record.value.find(',') != std::string_view::npos) return false;
    if (any_) joined_ += ',';
    joined_ += record.value;
    any_ = true;
    even_ = !even_;
    return true;
  }
  void store(Records& records) const {
    if (any_) records[std::string(kSparseMap)] = joined_;
  }

 private:
  std::string joined_;
  bool any_ = false;
  bool even_ = true;
};

}  // namespace

std::optional<std::int64_t> parse_decimal(std::string_view text) {
  // from_chars knows '-' only, and would take "-5" behind a '+'.
  if (text.starts_with('+')) {
    text.remove_prefix(1);
    if (text.starts_with('-')) return std::nullopt;
  }
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool valid_record(std::string_view key, std::string_view value) {
  constexpr auto kNone = std::string_view::npos;
  if (key.empty() || key.find('=') != kNone || key.find('\0') != kNone) return false;
  const bool c_string = key == "path" || key == "linkpath" || key == "uname" || key == "gname";
  return !c_string || value.find('\0') == kNone;
}

Result<Records> parse_records(std::string_view body) {
  Records records;
  SparsePairs pairs;
  while (!body.empty()) {
    const auto record = take_record(body);
    if (!record) return Error(Errc::kCorrupt, "a record of its pax header is malformed");
    if (!SparsePairs::owns(record->key)) {
      records.insert_or_assign(std::string(record->key), std::string(record->value));
    } else if (!pairs.add(*record)) {
      return Error(Errc::kCorrupt, "the sparse map in its pax header is out of order");
    }
  }
  pairs.store(records);
  return records;
}

std::string format_record(std::string_view key, std::string_view value) {
  // The length counts its own digits, so it may grow once by writing it down.
  const std::size_t rest = key.size() + value.size() + 3;
  std::size_t length = rest + std::to_string(rest).size();
  length = rest + std::to_string(length).size();
  std::string text = std::to_string(length);
  text.reserve(length);
  text.append(" ").append(key).append("=").append(value).append("\n");
  return text;
}

std::optional<Time> parse_time(std::string_view text) {
  const auto dot = text.find('.');
  const auto seconds = text.substr(0, dot);
  const auto whole = parse_decimal(seconds);
  if (!whole) return std::nullopt;
  Time time{*whole, 0};
  if (dot == std::string_view::npos) return time;
  std::uint32_t unit = kNsPerSecond;
  for (const char c : text.substr(dot + 1)) {
    if (c < '0' || c > '9') return std::nullopt;
    unit /= 10;  // 0 behind the ninth digit
    time.ns += static_cast<std::uint32_t>(c - '0') * unit;
  }
  if (time.ns != 0 && seconds.starts_with('-')) {  // "-1.5" is half a second after -2
    if (time.s == std::numeric_limits<std::int64_t>::min()) return std::nullopt;
    --time.s;
    time.ns = kNsPerSecond - time.ns;
  }
  return time;
}

std::string format_time(const Time& time) {
  if (time.ns == 0) return std::to_string(time.s);
  const bool negative = time.s < 0;
  const auto whole = negative ? -(time.s + 1) : time.s;
  auto fraction = std::to_string(negative ? kNsPerSecond - time.ns : time.ns);
  fraction.insert(0, 9 - fraction.size(), '0');
  fraction.erase(fraction.find_last_not_of('0') + 1);
  return (negative ? "-" : "") + std::to_string(whole) + "." + fraction;
}

}  // namespace imsy::oci::tar
