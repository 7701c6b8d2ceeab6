// imsy-snapshotter: a containerd snapshotter that serves imsy images lazily.

#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>

#include "common/log.h"
#include "common/program.h"
#include "snapshotter/config.h"
#include "snapshotter/daemon.h"

namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

int fail(const imsy::Error& error) {
  std::cerr << "imsy-snapshotter: " << imsy::log::printable(error.message()) << "\n";
  return kFailed;
}

int run(int argc, char** argv) {
  using namespace imsy::snapshotter;
  DaemonOptions options;
  std::filesystem::path config = "/etc/imsy/snapshotter.toml";
  std::string log_level;

  CLI::App app("Serves containerd's snapshots API, lazily for images made by imsy-convert.",
               "imsy-snapshotter");
  app.set_version_flag("--version", "imsy-snapshotter " IMSY_VERSION);
  app.add_option("--root", options.root, "what must survive a reboot")->capture_default_str();
  app.add_option("--address", options.address, "socket to listen at")->capture_default_str();
  app.add_option("--state", options.state, "what need not survive one")->capture_default_str();
  auto* config_flag =
      app.add_option("--config", config, "configuration file")->capture_default_str();
  app.add_option("--log-level", log_level, "trace, debug, info, warn or error; wins over the file")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }

  auto loaded = load_config(config, config_flag->count() > 0);
  if (!loaded) return fail(loaded.error());
  options.config = std::move(*loaded);
  if (!log_level.empty()) options.config.log_level = log_level;
  const auto configured = imsy::log::configure(options.config.log_level);
  if (!configured) return fail(configured.error());
  const auto served = run_daemon(options);
  if (!served) return fail(served.error());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return imsy::run_program("imsy-snapshotter", [&] { return run(argc, argv); });
}
