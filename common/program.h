// run_program: what stands between main() and the C++ runtime.
//
// Errors of ours are values, but the standard library throws when memory, threads or names run out.
// Threads: for the main thread; exceptions of other threads still end the process at once.
#pragma once

#include <functional>
#include <string_view>

namespace imsy {

// The exit code that `body` returns. When an exception escapes from it: 1, after one line on
// standard error that begins with `program`.
int run_program(std::string_view program, const std::function<int()>& body) noexcept;

}  // namespace imsy
