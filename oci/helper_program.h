// A program that is asked for a credential: docker's credential helpers, the kubelet's plugins.
//
// Promises
//   * It gets its question on standard input, and no descriptor but the three usual ones; what it
//     writes to standard error is dropped.
//   * What it writes is kept up to a limit, and is never part of a message.
//   * At the deadline, or when anything fails, it is killed with all of its process group.
//   * It can be told to end: signals are as a program expects them, whatever ours are.
// Threads: any. Waits until the program has ended, or its time is over.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "common/result.h"

namespace imsy::oci {

struct HelperProgram {
  std::string program;                 // a path, or a name that is looked up in $PATH
  std::vector<std::string> arguments;  // without the program's name
  std::vector<std::pair<std::string, std::string>> environment;  // beside our own, and before it
  std::string input;
  std::chrono::milliseconds time{10'000};
  std::size_t answer_limit = 64u << 10;
};

struct HelperAnswer {
  int status = 0;  // of its exit; -1 when a signal ended it
  std::string output;
};

// kNotFound: there is no such program. kTimeout, kInvalid (it writes too much), kUnavailable.
Result<HelperAnswer> run_helper(const HelperProgram& helper);

}  // namespace imsy::oci
