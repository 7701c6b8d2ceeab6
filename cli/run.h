// The program `imsy`, as a function.
//
// Threads: run() from one thread; it ends all threads that it starts.
// For users: docs/cli.md.
#pragma once

#include <ostream>
#include <span>
#include <stop_token>
#include <string>

#include "common/stream.h"

namespace imsy::cli {

// What a command talks to. All outlive the call.
struct Streams {
  ByteReader& in;
  std::ostream& out;
  std::ostream& err;
};

// How a command ended, as the shell sees it.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

// Runs the command that `args` (without the program's name) ask for. `stop` ends a command that is
// under way: `serve` has then done its work, others have failed.
int run(std::span<const std::string> args, const Streams& streams, const std::stop_token& stop);

// What `imsy -h` prints.
std::string usage();

}  // namespace imsy::cli
