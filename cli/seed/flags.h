// The command line of `imsy prepare | serve | pull`, as the original takes it.
//
// Flags stand before the command; "-x v", "-x=v", "--x v" and "--x=v" mean the same, the last one
// wins; the first word that is no flag, or what follows "--", ends them.
// Threads: free functions, any thread.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "common/result.h"

namespace imsy::cli::seed {

struct Flags {
  std::string dir;                             // -dir
  std::string listen = ":8080";                // -listen
  std::string addr = "http://localhost:8080";  // -addr
  std::string output;                          // -o
  bool help = false;                           // -h or -help was met; what follows it is not read
  std::vector<std::string> words;              // the command and its arguments
};

// kInvalid, with the words of the original: an undefined flag, one without its value, a malformed
// one.
Result<Flags> parse_flags(std::span<const std::string> args);

}  // namespace imsy::cli::seed
