// Daemon: builds all parts of imsy-snapshotter, runs them, and takes them down in order.
//
// Threads: call from the main thread, before any other thread exists.
#pragma once

#include <filesystem>
#include <functional>

#include "common/result.h"
#include "snapshotter/config.h"

namespace imsy::snapshotter {

struct DaemonOptions {
  std::filesystem::path root = "/var/lib/imsy-snapshotter";
  std::filesystem::path address = "/run/imsy-snapshotter/imsy.sock";
  std::filesystem::path state = "/run/imsy-snapshotter";
  Config config;
  // Reads the configuration again, on SIGHUP.
  std::function<Result<Config>()> reload;
};

// Serves until SIGTERM or SIGINT, then stops cleanly: calls in progress end, the lazy tree is
// unmounted, nothing that was promised is lost. On SIGHUP it takes over what the configuration now
// says, as far as that needs no restart. An error means that it could not start.
Status run_daemon(const DaemonOptions& options);

}  // namespace imsy::snapshotter
