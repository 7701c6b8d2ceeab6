#include "cli/seed/flags.h"

#include <string_view>

namespace imsy::cli::seed {
namespace {

std::string* find(Flags& flags, std::string_view name) {
  if (name == "dir") return &flags.dir;
  if (name == "listen") return &flags.listen;
  if (name == "addr") return &flags.addr;
  if (name == "o") return &flags.output;
  return nullptr;
}

}  // namespace

Result<Flags> parse_flags(std::span<const std::string> args) {
  Flags flags;
  while (!args.empty()) {
    const std::string& arg = args.front();
    if (arg.size() < 2 || arg[0] != '-') break;
    args = args.subspan(1);
    if (arg == "--") break;
    const std::string_view body = std::string_view(arg).substr(arg.starts_with("--") ? 2 : 1);
    if (body.starts_with('-') || body.starts_with('=')) {
      return Error(Errc::kInvalid, "bad flag syntax: " + arg);
    }
    const auto equals = body.find('=');
    const std::string name(body.substr(0, equals));
    std::string* const value = find(flags, name);
    if (value != nullptr && equals != std::string_view::npos) {
      *value = body.substr(equals + 1);
    } else if (value != nullptr && !args.empty()) {
      *value = args.front();
      args = args.subspan(1);
    } else if (value != nullptr) {
      return Error(Errc::kInvalid, "flag needs an argument: -" + name);
    } else if (name == "h" || name == "help") {
      flags.help = true;
      return flags;
    } else {
      return Error(Errc::kInvalid, "flag provided but not defined: -" + name);
    }
  }
  flags.words.assign(args.begin(), args.end());
  return flags;
}

}  // namespace imsy::cli::seed
