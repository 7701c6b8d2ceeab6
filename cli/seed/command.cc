#include "cli/seed/command.h"

#include "cli/seed/directory.h"
#include "cli/seed/event_log.h"
#include "cli/seed/flags.h"
#include "cli/seed/prepare.h"
#include "cli/seed/pull.h"
#include "cli/seed/serve.h"

namespace imsy::cli::seed {
namespace {

Status prepare_command(const Directory& directory, const Streams& streams) {
  IMSY_TRY_ASSIGN(const Digest digest, prepare(streams.in, directory));
  streams.out << digest.hex() << '\n' << std::flush;
  if (!streams.out) return Error(Errc::kInternal, "cannot write to standard output");
  return {};
}

Status pull_command(const Flags& flags, const Directory& directory, EventLog& log,
                    const std::stop_token& stop) {
  IMSY_TRY_ASSIGN(const Digest list, Digest::parse_hex(flags.words[1]));
  IMSY_TRY_ASSIGN(const Hits hits, pull(list, flags.output, directory, flags.addr, log, stop));
  log.line(to_string(hits));
  return {};
}

Status dispatch(const Flags& flags, const Streams& streams, EventLog& log,
                const std::stop_token& stop) {
  const std::string& command = flags.words[0];
  if (command != "prepare" && command != "serve" && command != "pull") {
    return Error(Errc::kInvalid, "unknown command " + quote(command));
  }
  IMSY_TRY_ASSIGN(const Directory directory, Directory::open(flags.dir));
  if (command == "prepare") return prepare_command(directory, streams);
  if (command == "serve") return serve(directory, flags.listen, log, stop);
  return pull_command(flags, directory, log, stop);
}

bool is_complete(const Flags& flags) {
  if (flags.dir.empty() || flags.words.empty()) return false;
  return flags.words[0] != "pull" || (flags.words.size() >= 2 && !flags.output.empty());
}

}  // namespace

int run_command(std::span<const std::string> args, const Streams& streams,
                const std::stop_token& stop) {
  const auto flags = parse_flags(args);
  if (!flags) {
    streams.err << flags.error().message() << '\n' << usage() << std::flush;
    return kExitUsage;
  }
  if (flags->help || !is_complete(*flags)) {
    streams.err << usage() << std::flush;
    return flags->help ? kExitDone : kExitFailed;
  }
  EventLog log(streams.err);
  const Status outcome = dispatch(*flags, streams, log, stop);
  if (outcome) return kExitDone;
  log.line(outcome.error().message());
  return kExitFailed;
}

}  // namespace imsy::cli::seed
