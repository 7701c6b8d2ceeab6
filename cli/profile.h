// profile: what containers read first of an image, as a node recorded it or as profiles say it.
//
// Threads: any.
#pragma once

#include <filesystem>
#include <ostream>
#include <span>
#include <string>

#include "cdc/profile.h"
#include "common/digest.h"
#include "common/result.h"

namespace CLI {
class App;
}

namespace imsy::cli {

// What imsy-snapshotter, which may be running, has recorded below its root directory of the image
// with this CDC manifest. Changes nothing. kNotFound: nothing; kInvalid, kCorrupt: the recording or
// the manifest is damaged; kDenied and kFailedPrecondition: not ours to read.
Result<cdc::Profile> read_recorded(const std::filesystem::path& root, const Digest& manifest);

// The merge of the profiles in these files. Errors name the file.
Result<cdc::Profile> merge_files(std::span<const std::string> files);

// Adds the command to `app`. Parsed, it runs at once and leaves its result in `outcome`; everything
// given outlives the parsing.
void add_profile_command(CLI::App& app, std::ostream& out, Status& outcome);

}  // namespace imsy::cli
