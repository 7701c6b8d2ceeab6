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

int report_config(const std::filesystem::path& path) {
  std::cout << path.string()
            << (std::filesystem::exists(path) ? ": right\n" : ": absent, the defaults hold\n");
  return 0;
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
  bool check_config = false;
  app.add_flag("--check-config", check_config,
               "read the configuration file, say whether it is right, and end");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }

  options.reload = [&]() -> imsy::Result<Config> {
    IMSY_TRY_ASSIGN(Config read, load_config(config, config_flag->count() > 0));
    if (!log_level.empty()) read.log_level = log_level;
    return read;
  };
  auto loaded = options.reload();
  if (!loaded) return fail(loaded.error());
  if (check_config) return report_config(config);
  options.config = std::move(*loaded);
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
