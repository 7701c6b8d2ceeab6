// Filter: containerd's filter language over snapshots, as List receives it.
//
//   filter    = selector { "," selector }                  all of them
//   selector  = fieldpath [ ( "==" | "!=" | "~=" ) value ]   without operator: present
//   fieldpath = field { "." field }
//   field     = quoted | letters, digits, "_"
//   value     = quoted | printable characters up to a space or ","
//   quoted    = "..." with Go's escapes; after "~=" also /.../ and |...|
//
// Fields: name, parent, kind (active, view, committed) and labels.<rest of the path>. "!=" holds
// for an absent field, "==" does not; "~=" searches with RE2, a broken expression matches nothing.
// Source: containerd pkg/filters (grammar) and core/snapshots/storage (fields).
// Threads: immutable; any thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "snapshotter/types.h"

namespace re2 {
class RE2;
}

namespace imsy::snapshotter {

class Filter {
 public:
  // A snapshot matches when any of `filters` does; none, or an empty one, matches everything.
  // kInvalid with the position of what is wrong.
  static Result<Filter> parse(const std::vector<std::string>& filters);

  bool matches(const Info& info) const;

 private:
  friend class FilterParser;
  enum class Operator : std::uint8_t { kPresent, kEqual, kNotEqual, kMatches };
  struct Selector {
    std::vector<std::string> path;
    Operator op = Operator::kPresent;
    std::string value;
    std::shared_ptr<const re2::RE2> expression;  // kMatches; null when broken
    bool matches(const Info& info) const;
  };
  using All = std::vector<Selector>;

  std::vector<All> any_;  // empty: everything
};

}  // namespace imsy::snapshotter
