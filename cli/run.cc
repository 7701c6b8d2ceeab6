#include "cli/run.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <string_view>

#include "cli/control.h"
#include "cli/explain.h"
#include "cli/fsck.h"
#include "cli/gc.h"
#include "cli/image/commands.h"
#include "cli/profile.h"
#include "cli/seed/command.h"
#include "cli/stat.h"
#include "common/log.h"

namespace imsy::cli {
namespace {

// Words that the original has no use for in this place begin a command of ours.
constexpr std::array<std::string_view, 14> kOurs = {
    "help",    "stat", "gc",     "fsck",   "explain", "profile", "check",
    "inspect", "diff", "unpack", "export", "mount",   "umount",  "--version"};

bool is_ours(const std::string& word) {
  return std::find(kOurs.begin(), kOurs.end(), word) != kOurs.end();
}

struct StatOptions {
  std::string root = kNodeRoot;
  std::string state = kNodeState;
  bool json = false;
};

Status stat(const StatOptions& options, std::ostream& out) {
  IMSY_TRY_ASSIGN(const auto stats, read_stats(options.root));
  IMSY_TRY_ASSIGN(const auto traffic, read_traffic(options.state));
  if (options.json) {
    out << to_json(stats, traffic);
  } else {
    out << to_text(stats) << (traffic ? to_text(*traffic) : "");
  }
  return {};
}

Status gc(const GcOptions& options, std::ostream& out) {
  IMSY_TRY_ASSIGN(const auto collected, collect_garbage(options));
  out << to_text(collected);
  return {};
}

int run_ours(std::span<const std::string> args, const Streams& streams,
             const std::stop_token& stop) {
  CLI::App app("", "imsy");
  app.set_help_flag("-h,--help", "show this");
  app.set_version_flag("--version", "imsy " IMSY_VERSION);
  app.require_subcommand(1);
  Status outcome;
  app.add_subcommand("help", "Show what there is.")->callback([&] { streams.out << usage(); });
  StatOptions options;
  auto* const stat_command =
      app.add_subcommand("stat", "Show what the store of an imsy-snapshotter holds.");
  stat_command->add_option("--root", options.root, "root directory of imsy-snapshotter")
      ->capture_default_str();
  stat_command->add_option("--state", options.state, "its state directory")->capture_default_str();
  stat_command->add_flag("--json", options.json, "for programs");
  stat_command->callback([&] { outcome = stat(options, streams.out); });
  GcOptions gc_options{.root = kNodeRoot, .state = kNodeState};
  auto* const gc_command = app.add_subcommand("gc", "Delete what no image of a node owns.");
  gc_command->add_option("--root", gc_options.root, "root directory of imsy-snapshotter")
      ->capture_default_str();
  gc_command->add_option("--state", gc_options.state, "its state directory, while it is running")
      ->capture_default_str();
  gc_command->add_flag("--shrink", gc_options.shrink,
                       "also what images own: it is fetched again when it is read");
  gc_command->add_option("--bytes", gc_options.bytes, "stop when so much is deleted: 500M, 2G")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true));
  gc_command->callback([&] { outcome = gc(gc_options, streams.out); });
  add_explain_command(app, streams.out, outcome);
  add_fsck_command(app, streams.out, streams.err, stop, outcome);
  add_profile_command(app, streams.out, outcome);
  image::add_commands(app, streams, stop, outcome);
  try {
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::CallForVersion& version) {
    streams.out << version.what() << '\n';
  } catch (const CLI::CallForHelp&) {
    streams.out << app.help();
  } catch (const CLI::ParseError& error) {
    streams.err << "imsy: " << error.what() << "; see imsy help\n";
    return kExitUsage;
  }
  if (outcome && !streams.out.flush()) {
    outcome = Error(Errc::kInternal, "cannot write to standard output");
  }
  if (outcome) return kExitDone;
  streams.err << "imsy: " << log::printable(outcome.error().message()) << '\n';
  return kExitFailed;
}

}  // namespace

std::string usage() {
  return R"(Usage: imsy -dir DIR prepare < FILE
       imsy -dir DIR [-listen ADDRESS] serve
       imsy -dir DIR [-addr URL] -o FILE pull DIGEST
       imsy inspect REF [OTHER...] [--json]
       imsy diff A B [--json] [--files]
       imsy check REF [--against ORIGINAL]
       imsy unpack REF DIR
       imsy mount REF DIR [--store DIR] [--foreground]
       imsy umount DIR [--lazy]
       imsy export SRC DST [--compress zstd|gzip|none]
       imsy stat [--root DIR] [--state DIR] [--json]
       imsy explain [SNAPSHOT] [--state DIR] [--json]
       imsy gc [--shrink] [--bytes SIZE] [--root DIR] [--state DIR]
       imsy fsck [--read-data] [--repair] [--json] [--root DIR] [--state DIR]
       imsy profile recorded [--root DIR] MANIFEST-DIGEST
       imsy profile merge FILE...
       imsy help | --version
       imsy COMMAND --help, of all but the first three

  prepare  cut standard input into chunks, keep them in DIR, print a DIGEST
  serve    offer DIR over HTTP
  pull     put the file of DIGEST together again, from DIR and from URL
  inspect  show what a converted image consists of, and shares with others
  diff     show what a node that holds A fetches for B
  check    read a converted image completely and prove what it says
  unpack   write an image's tree into a new or empty directory
  mount    show an image's tree in a directory, fetching what is read of it
  umount   take away what imsy mount shows
  export   write a converted image as a plain one
  stat     show what the store of an imsy-snapshotter holds, and what it has fetched
  explain  show how a snapshot is mounted and why, or what this machine can do
  gc       delete what no image of an imsy-snapshotter owns
  fsck     check its store, and have what is bad fetched again
  profile  print what an imsy-snapshotter has recorded of an image's start, or merge such profiles

REF and the like name images as imsy-convert does: registry/repository:tag, oci:DIR[:tag],
oci-archive:FILE[:tag].

Flags of the first three, before the command:
  -dir string
        directory to store chunks in (required)
  -listen string
        listen address of "serve" (default ":8080")
  -addr string
        url of an instance of "imsy serve" (default "http://localhost:8080")
  -o string
        output file (required for "pull")

Flags of the commands about images, after the command:
  --platform OS/ARCH[/VARIANT]
        only this image of an index
  --plain-http
        http, not https, to registries
  --tmp DIR
        for unnamed temporary files (default $TMPDIR)
  --allow-foreign-layers
        fetch layers of ordinary images from where their manifests say (check --against, unpack)

Flags of stat, explain, gc, fsck and profile recorded, after the command:
  --root DIR
        root directory of imsy-snapshotter (default "/var/lib/imsy-snapshotter")
  --state DIR
        its state directory, for all but profile recorded (default "/run/imsy-snapshotter")
  --json
        for programs (stat, explain, fsck)
)";
}

int run(std::span<const std::string> args, const Streams& streams, const std::stop_token& stop) {
  if (!args.empty() && is_ours(args.front())) return run_ours(args, streams, stop);
  return seed::run_command(args, streams, stop);
}

}  // namespace imsy::cli
