// gc: deletes what no image of a node owns, and more when that is asked for.
//
// Threads: any.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>

#include "cas/store.h"
#include "common/result.h"

namespace imsy::cli {

struct GcOptions {
  std::filesystem::path root;
  std::filesystem::path state;
  std::uint64_t bytes = std::numeric_limits<std::uint64_t>::max();  // not more than needed for them
  bool shrink = false;  // also what can be had of images that are not pinned
};

// In the store below the root directory of imsy-snapshotter: directly when nobody has it, else
// through the daemon whose state directory this is. kNotFound: there is no store; kUnavailable: who
// has it does not answer; kDenied and kFailedPrecondition: not ours to change.
Result<cas::Collected> collect_garbage(const GcOptions& options);

// One line for people.
std::string to_text(const cas::Collected& collected);

}  // namespace imsy::cli
