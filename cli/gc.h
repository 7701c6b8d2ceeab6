// gc: deletes what no image of a node owns.
//
// Threads: any.
#pragma once

#include <filesystem>
#include <string>

#include "cas/store.h"
#include "common/result.h"

namespace imsy::cli {

// In the store below the root directory of imsy-snapshotter: directly when nobody has it, else
// through the daemon whose state directory this is. kNotFound: there is no store; kUnavailable: who
// has it does not answer; kDenied and kFailedPrecondition: not ours to change.
Result<cas::Collected> collect_garbage(const std::filesystem::path& root,
                                       const std::filesystem::path& state);

// One line for people.
std::string to_text(const cas::Collected& collected);

}  // namespace imsy::cli
