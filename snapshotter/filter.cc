#include "snapshotter/filter.h"

#include <re2/re2.h>

#include <algorithm>
#include <optional>

namespace imsy::snapshotter {
namespace {

// A filter is a line that a person could type; more is an attempt to exhaust us.
constexpr std::size_t kFilterLimit = 64 * 1024;

// The value of a field, or nullopt when the snapshot has no such field.
std::optional<std::string_view> field_of(const Info& info, const std::vector<std::string>& path) {
  if (path[0] == "name") return info.name;
  if (path[0] == "parent") return info.parent;
  if (path[0] == "kind") return to_string(info.kind);
  if (path[0] != "labels") return std::nullopt;
  std::string key;
  for (std::size_t i = 1; i < path.size(); ++i) {
    if (i > 1) key += '.';
    key += path[i];
  }
  const auto found = info.labels.find(key);
  if (found == info.labels.end()) return std::nullopt;
  return found->second;
}

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_quote(char c) {
  return c == '"' || c == '/' || c == '|';
}
bool is_operator(char c) {
  return c == '=' || c == '!' || c == '~';
}
bool is_field(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}
// Bytes above ASCII belong to UTF-8 sequences, of which nearly all are printable.
bool is_value(char c) {
  return c != ',' && !is_space(c) &&
         (static_cast<unsigned char>(c) >= 0x80 || (c > 0x20 && c < 0x7f));
}

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 16;
}

void append_utf8(std::string& to, std::uint32_t rune) {
  const auto byte = [&to](std::uint32_t b) { to += static_cast<char>(b); };
  if (rune < 0x80) {
    byte(rune);
  } else if (rune < 0x800) {
    byte(0xc0 | (rune >> 6));
    byte(0x80 | (rune & 0x3f));
  } else if (rune < 0x10000) {
    byte(0xe0 | (rune >> 12));
    byte(0x80 | ((rune >> 6) & 0x3f));
    byte(0x80 | (rune & 0x3f));
  } else {
    byte(0xf0 | (rune >> 18));
    byte(0x80 | ((rune >> 12) & 0x3f));
    byte(0x80 | ((rune >> 6) & 0x3f));
    byte(0x80 | (rune & 0x3f));
  }
}

}  // namespace

// Recursive descent over one filter string. Blanks are skipped before a field, an operator and a
// value, and nowhere else, as containerd's scanner does.
class FilterParser {
 public:
  explicit FilterParser(std::string_view input) : input_(input) {}

  Result<Filter::All> parse() {
    Filter::All all;
    while (true) {
      IMSY_TRY_ASSIGN(auto selector, parse_selector());
      all.push_back(std::move(selector));
      if (at_end()) return all;
      if (peek() != ',') return fail("unexpected input");
      ++position_;
    }
  }

 private:
  bool at_end() const { return position_ == input_.size(); }
  char peek() const { return input_[position_]; }
  void skip_spaces() {
    while (!at_end() && is_space(peek())) ++position_;
  }
  Error fail(std::string_view what) const {
    return Error(Errc::kInvalid, "filter \"" + std::string(input_) + "\" at byte " +
                                     std::to_string(position_) + ": " + std::string(what));
  }

  Result<Filter::Selector> parse_selector() {
    Filter::Selector selector;
    while (true) {
      IMSY_TRY_ASSIGN(auto field, parse_field());
      selector.path.push_back(std::move(field));
      if (at_end() || peek() != '.') break;
      ++position_;
    }
    if (at_end() || peek() == ',') return selector;
    IMSY_TRY_ASSIGN(selector.op, parse_operator());
    IMSY_TRY_ASSIGN(selector.value, parse_value(selector.op == Filter::Operator::kMatches));
    if (selector.op == Filter::Operator::kMatches) {
      RE2::Options quiet;
      quiet.set_log_errors(false);
      auto expression = std::make_shared<RE2>(selector.value, quiet);
      if (expression->ok()) selector.expression = std::move(expression);
    }
    return selector;
  }

  Result<std::string> parse_field() {
    skip_spaces();
    if (at_end()) return fail("expected a field");
    if (is_quote(peek())) {
      if (peek() != '"') return fail("a field is quoted with \"");
      return parse_quoted();
    }
    const std::size_t begin = position_;
    while (!at_end() && is_field(peek())) ++position_;
    if (position_ == begin) return fail("expected a field");
    return std::string(input_.substr(begin, position_ - begin));
  }

  Result<Filter::Operator> parse_operator() {
    skip_spaces();
    const std::size_t begin = position_;
    while (!at_end() && is_operator(peek())) ++position_;
    const std::string_view text = input_.substr(begin, position_ - begin);
    if (text == "==") return Filter::Operator::kEqual;
    if (text == "!=") return Filter::Operator::kNotEqual;
    if (text == "~=") return Filter::Operator::kMatches;
    position_ = begin;
    return fail("expected one of == != ~=");
  }

  Result<std::string> parse_value(bool other_quotes) {
    skip_spaces();
    if (at_end()) return fail("expected a value");
    if (is_quote(peek())) {
      if (peek() != '"' && !other_quotes) return fail("this value is quoted with \"");
      return parse_quoted();
    }
    const std::size_t begin = position_;
    if (peek() != '.' && !is_operator(peek())) {
      while (!at_end() && is_value(peek())) ++position_;
    }
    if (position_ == begin) return fail("expected a value");
    return std::string(input_.substr(begin, position_ - begin));
  }

  Result<std::string> parse_quoted() {
    const char quote = peek();
    ++position_;
    std::string text;
    while (true) {
      if (at_end() || peek() == '\n') return fail("the quotation does not end");
      const char c = peek();
      ++position_;
      if (c == quote) return text;
      if (c == '\\') {
        IMSY_TRY(parse_escape(quote, text));
      } else {
        text += c;
      }
    }
  }

  // What stands after a backslash.
  Status parse_escape(char quote, std::string& text) {
    if (at_end()) return fail("the quotation does not end");
    const char c = peek();
    ++position_;
    if (c == quote || c == '\\') {
      text += c;
      return {};
    }
    constexpr std::string_view kNames = "abfnrtv";
    constexpr std::string_view kBytes = "\a\b\f\n\r\t\v";
    if (const auto i = kNames.find(c); i != std::string_view::npos) {
      text += kBytes[i];
      return {};
    }
    if (c >= '0' && c <= '7') {
      --position_;
      return parse_number(8, 3, 0xff, false, text);
    }
    if (c == 'x') return parse_number(16, 2, 0xff, false, text);
    if (c == 'u') return parse_number(16, 4, 0x10ffff, true, text);
    if (c == 'U') return parse_number(16, 8, 0x10ffff, true, text);
    --position_;
    return fail("unknown escape");
  }

  Status parse_number(int base, int digits, std::uint32_t limit, bool rune, std::string& text) {
    std::uint64_t value = 0;
    for (int i = 0; i < digits; ++i, ++position_) {
      if (at_end() || digit_value(peek()) >= base) return fail("expected a digit of an escape");
      value = value * static_cast<unsigned>(base) + static_cast<unsigned>(digit_value(peek()));
    }
    if (value > limit) return fail("an escape names no character");
    if (rune && value >= 0xd800 && value < 0xe000) return fail("an escape names half a character");
    if (rune) {
      append_utf8(text, static_cast<std::uint32_t>(value));
    } else {
      text += static_cast<char>(value);
    }
    return {};
  }

  std::string_view input_;
  std::size_t position_ = 0;
};

Result<Filter> Filter::parse(const std::vector<std::string>& filters) {
  Filter filter;
  std::size_t total = 0;
  for (const std::string& text : filters) {
    total += text.size();
    if (total > kFilterLimit) return Error(Errc::kInvalid, "the filters are too long");
    IMSY_TRY_ASSIGN(auto all, text.empty() ? Result<All>(All()) : FilterParser(text).parse());
    filter.any_.push_back(std::move(all));
  }
  return filter;
}

bool Filter::Selector::matches(const Info& info) const {
  const auto field = field_of(info, path);
  switch (op) {
    case Operator::kPresent: return field.has_value();
    case Operator::kEqual: return field.has_value() && *field == value;
    case Operator::kNotEqual: return field.value_or("") != value;
    case Operator::kMatches: {
      const std::string_view text = field.value_or("");
      return expression != nullptr &&
             RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), *expression);
    }
  }
  return false;
}

bool Filter::matches(const Info& info) const {
  return any_.empty() || std::ranges::any_of(any_, [&info](const All& all) {
           return std::ranges::all_of(all, [&info](const Selector& s) { return s.matches(info); });
         });
}

}  // namespace imsy::snapshotter
