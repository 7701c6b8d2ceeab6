// stat: what the store of a node holds, and what its daemon has fetched.
//
// Threads: any.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cas/store.h"
#include "common/result.h"

namespace imsy::cli {

// Where imsy-snapshotter keeps its state unless it is told otherwise.
inline constexpr const char* kNodeRoot = "/var/lib/imsy-snapshotter";

// The numbers of the store below the root directory of imsy-snapshotter, which may be running.
// Changes nothing. kNotFound: there is no store; kDenied and kFailedPrecondition: not ours to read.
Result<cas::StoreStats> read_stats(const std::filesystem::path& root);

// The store itself, while no imsy-snapshotter uses it; its limits are not kept and stay on record.
// Errors as read_stats(); kUnavailable: a daemon uses it.
Result<std::unique_ptr<cas::Store>> open_idle_store(const std::filesystem::path& root);

// What went over the wire since imsy-snapshotter started, as it says itself.
struct Traffic {
  struct Sum {
    std::uint64_t requests = 0;
    std::uint64_t bytes = 0;
  };
  Sum all;
  std::uint64_t bytes_gap = 0;
  std::uint64_t bytes_broken = 0;
  std::uint64_t bytes_wrong = 0;
  std::map<std::string, std::map<std::string, Sum>> places;  // by place and purpose
};

// The text of its stats.json; `where` stands in errors. kInvalid: another text.
Result<Traffic> parse_traffic(std::string_view text, const std::string& where);
// From its state directory; nothing when it has not run since the machine booted. kInvalid: the
// file there is not its.
Result<std::optional<Traffic>> read_traffic(const std::filesystem::path& state);

// For people: one line for each sum and each image, sizes in units of 1000.
std::string to_text(const cas::StoreStats& stats);
std::string to_text(const Traffic& traffic);

// For programs: one JSON object, sizes in bytes. Described in docs/cli.md.
std::string to_json(const cas::StoreStats& stats, const std::optional<Traffic>& traffic);

}  // namespace imsy::cli
