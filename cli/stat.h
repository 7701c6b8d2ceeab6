// stat: what the store of a node holds.
//
// Threads: any.
#pragma once

#include <filesystem>
#include <string>

#include "cas/store.h"
#include "common/result.h"

namespace imsy::cli {

// Where imsy-snapshotter keeps its state unless it is told otherwise.
inline constexpr const char* kNodeRoot = "/var/lib/imsy-snapshotter";

// The numbers of the store below the root directory of imsy-snapshotter, which may be running.
// Changes nothing. kNotFound: there is no store; kDenied and kFailedPrecondition: not ours to read.
Result<cas::StoreStats> read_stats(const std::filesystem::path& root);

// For people: one line for each sum and each image, sizes in units of 1000.
std::string to_text(const cas::StoreStats& stats);

// For programs: one JSON object, sizes in bytes. Described in docs/cli.md.
std::string to_json(const cas::StoreStats& stats);

}  // namespace imsy::cli
