// gc: deletes what no image of a node owns.
//
// Threads: any.
#pragma once

#include <filesystem>
#include <string>

#include "cas/store.h"
#include "common/result.h"

namespace imsy::cli {

// In the store below the root directory of imsy-snapshotter, which must not be running
// (kUnavailable). kNotFound: there is no store; kDenied and kFailedPrecondition: not ours to
// change.
Result<cas::Collected> collect_garbage(const std::filesystem::path& root);

// One line for people.
std::string to_text(const cas::Collected& collected);

}  // namespace imsy::cli
