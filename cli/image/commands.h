// The commands about images in places: registries, layouts, archives.
//
// Threads: one; the HTTP client has its own.
#pragma once

#include <stop_token>

#include "cli/run.h"
#include "common/result.h"

namespace CLI {
class App;
}

namespace imsy::cli::image {

// Adds the commands to `app`. The one that is parsed runs at once and leaves its result in
// `outcome`; everything given outlives the parsing.
void add_commands(CLI::App& app, const Streams& streams, const std::stop_token& stop,
                  Status& outcome);

}  // namespace imsy::cli::image
