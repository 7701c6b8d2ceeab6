// `imsy prepare | serve | pull`: flags in, exit code out, as the original has them.
//
// Threads: run_command() from one thread.
#pragma once

#include <span>
#include <stop_token>
#include <string>

#include "cli/run.h"

namespace imsy::cli::seed {

// 0: done, or help was asked for. 1: failed, or the command line is incomplete. 2: a flag is not
// defined or malformed. Errors are one line on streams.err, with the time before it.
int run_command(std::span<const std::string> args, const Streams& streams,
                const std::stop_token& stop);

}  // namespace imsy::cli::seed
