// serve: a directory of entries over HTTP.
//
// GET and HEAD of "/<64 hex digits>" answer with the entry's bytes as they are on disk. They are
// not hashed on the way out: whoever fetches knows the digest and has to check it anyway.
// Threads: serve() from one thread.
// Wire: docs/format/seed.md.
#pragma once

#include <functional>
#include <stop_token>
#include <string>

#include "cli/seed/directory.h"
#include "cli/seed/event_log.h"

namespace imsy::cli::seed {

// Serves on `address` (Server::listen) until `stop`. `log` gets one line with the bound address and
// then one for each request.
Status serve(const Directory& directory, const std::string& address, EventLog& log,
             const std::stop_token& stop);

}  // namespace imsy::cli::seed
