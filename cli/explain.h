// explain: how a snapshot is mounted and why, or what this machine keeps from being lazy.
//
// Threads: any.
#pragma once

#include <string>

#include "common/result.h"
#include "proto/imsy/control.grpc.pb.h"

namespace CLI {
class App;
}

namespace imsy::cli {

// What a daemon has answered, for people and for programs (docs/cli.md).
std::string to_text(const control::v1::ExplainResponse& answer);
std::string to_json(const control::v1::ExplainResponse& answer);

// Adds `imsy explain` to `app`; `outcome` is what became of it.
void add_explain_command(CLI::App& app, std::ostream& out, Status& outcome);

}  // namespace imsy::cli
