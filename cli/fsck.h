// fsck: holds the store of a node against its promises, and mends what does not fit.
//
// Threads: any.
#pragma once

#include <ostream>
#include <stop_token>
#include <string>

#include "cli/control.h"
#include "cli/stat.h"
#include "common/result.h"

namespace CLI {
class App;
}

namespace imsy::cli {

struct FsckOptions {
  std::string root = kNodeRoot;
  std::string state = kNodeState;
  bool read_data = false;
  bool repair = false;
  bool json = false;
};

// Checks the store below the root directory of imsy-snapshotter: directly when nobody has it, else
// through the daemon. Findings and a summary go to `out`, progress to `progress` unless it is null.
// kNotFound: there is no store. kUnavailable: who has it does not answer. kCancelled: stopped.
// kCorrupt: something was found and not repaired.
Status fsck(const FsckOptions& options, std::ostream& out, std::ostream* progress,
            const std::stop_token& stop);

// Adds the command to `app`. Parsed, it runs at once and leaves its result in `outcome`; everything
// given outlives the parsing.
void add_fsck_command(CLI::App& app, std::ostream& out, std::ostream& err,
                      const std::stop_token& stop, Status& outcome);

}  // namespace imsy::cli
