// Result<T>: a value or an Error; errors are values in this project.
//
// Promises
//   * A Result cannot be dropped unread: both types are [[nodiscard]]. To disregard one on purpose
//     write ignore(result, "why"), so that it can be searched for.
//   * No exception of ours crosses a module's interface.
// Threads: plain values, no sharing.
// The member names are those of std::expected (C++23), which g++ 12 offers only in C++23 mode.
#pragma once

#include <cassert>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace imsy {

// What kind of failure. Small and total: fuse/ and snapshotter/ each translate all of them in one
// switch without a default.
enum class Errc : std::uint8_t {
  kInvalid,             // the request or the input is malformed; repeating it will not help
  kNotFound,            // the named thing does not exist
  kAlreadyExists,       // the named thing exists; also containerd's "layer is here already"
  kFailedPrecondition,  // exists, but not in a state that allows this
  kCorrupt,             // bytes do not match their digest, or break their format
  kUnavailable,         // network, registry or another process does not answer; may help to retry
  kNoSpace,             // disk, quota or inodes exhausted
  kDenied,              // credentials or permissions
  kCancelled,           // the caller gave up
  kTimeout,             // the deadline passed
  kInternal,            // our own bug, or the system behaves unexpectedly
};

// A short lower-case name for logs, e.g. "not found".
std::string_view to_string(Errc code);

// What failed, in words a person can act on: what, where, what to do.
class [[nodiscard]] Error {
 public:
  Error(Errc code, std::string message, int sys_errno = 0)
      : code_(code), sys_errno_(sys_errno), message_(std::move(message)) {}

  Errc code() const { return code_; }
  const std::string& message() const { return message_; }
  // The errno behind it, or 0.
  int sys_errno() const { return sys_errno_; }

  // The same error with "context: " before its message. Add context once per layer that knows
  // something new.
  Error with_context(std::string_view context) const {
    return Error(code_, std::string(context) + ": " + message_, sys_errno_);
  }

  // From errno after a failed system call: picks the kind, appends strerror. `what` names the call
  // and its object: "open /var/lib/imsy/lock".
  static Error from_errno(int err, std::string_view what);

 private:
  Errc code_;
  int sys_errno_;
  std::string message_;
};

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value)
      : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error)
      : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  Error& error() & { return std::get<1>(state_); }
  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

  template <typename U>
  T value_or(U&& other) const& {
    return has_value() ? value() : static_cast<T>(std::forward<U>(other));
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  void value() const { assert(has_value()); }

  Error& error() & { return *error_; }
  const Error& error() const& { return *error_; }
  Error&& error() && { return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

// Disregards a Result on purpose.
template <typename T>
void ignore(const Result<T>&, const char* /*why*/) {}

}  // namespace imsy

#define IMSY_CONCAT_INNER(a, b) a##b
#define IMSY_CONCAT(a, b) IMSY_CONCAT_INNER(a, b)

// IMSY_TRY(expr): returns the error of `expr` from the enclosing function, if it has one.
// IMSY_TRY_ASSIGN(decl, expr): the same, else binds the value: IMSY_TRY_ASSIGN(auto fd, open(p));
#define IMSY_TRY_IMPL(tmp, expr)             \
  do {                                       \
    auto tmp = (expr);                       \
    if (!tmp) return std::move(tmp).error(); \
  } while (false)

#define IMSY_TRY(expr) IMSY_TRY_IMPL(IMSY_CONCAT(imsy_try_, __COUNTER__), expr)

#define IMSY_TRY_ASSIGN_IMPL(tmp, decl, expr) \
  auto tmp = (expr);                          \
  if (!tmp) return std::move(tmp).error();    \
  decl = std::move(tmp).value()

#define IMSY_TRY_ASSIGN(decl, expr) \
  IMSY_TRY_ASSIGN_IMPL(IMSY_CONCAT(imsy_try_, __COUNTER__), decl, expr)
