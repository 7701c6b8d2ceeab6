#include "cli/run.h"

#include <CLI/CLI.hpp>

#include "cli/seed/command.h"

namespace imsy::cli {
namespace {

// Words that the original has no use for in this place begin a command of ours.
bool is_ours(const std::string& word) {
  return word == "help" || word == "--version";
}

int run_ours(std::span<const std::string> args, const Streams& streams) {
  CLI::App app("", "imsy");
  app.set_help_flag();
  app.set_version_flag("--version", "imsy " IMSY_VERSION);
  app.require_subcommand(1);
  app.add_subcommand("help")->callback([&] { streams.out << usage(); });
  try {
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::CallForVersion& version) {
    streams.out << version.what() << '\n';
  } catch (const CLI::ParseError& error) {
    streams.err << "imsy: " << error.what() << "; see imsy help\n";
    return kExitUsage;
  }
  if (streams.out.flush()) return kExitDone;
  streams.err << "imsy: cannot write to standard output\n";
  return kExitFailed;
}

}  // namespace

std::string usage() {
  return R"(Usage: imsy -dir DIR prepare < FILE
       imsy -dir DIR [-listen ADDRESS] serve
       imsy -dir DIR [-addr URL] -o FILE pull DIGEST
       imsy help | --version

  prepare  cut standard input into chunks, keep them in DIR, print a DIGEST
  serve    offer DIR over HTTP
  pull     put the file of DIGEST together again, from DIR and from URL

Flags of these three, before the command:
  -dir string
        directory to store chunks in (required)
  -listen string
        listen address of "serve" (default ":8080")
  -addr string
        url of an instance of "imsy serve" (default "http://localhost:8080")
  -o string
        output file (required for "pull")
)";
}

int run(std::span<const std::string> args, const Streams& streams, const std::stop_token& stop) {
  if (!args.empty() && is_ours(args.front())) return run_ours(args, streams);
  return seed::run_command(args, streams, stop);
}

}  // namespace imsy::cli
