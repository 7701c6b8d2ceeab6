// pull: a file put together again from the list of its chunks.
//
// Threads: pull() from one thread.
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>

#include "cli/seed/directory.h"
#include "cli/seed/event_log.h"
#include "common/digest.h"

namespace imsy::cli::seed {

// From where the list and the chunks came; a chunk counts as often as the file holds it, and comes
// over HTTP only the first time.
struct Hits {
  std::uint64_t local = 0;
  std::uint64_t remote = 0;
};

// "hits: 37.50% 62.50%", local and remote.
std::string to_string(const Hits& hits);

// Writes the file whose list has the digest `list` to `output_path`. What `directory` lacks is
// fetched from `address` and kept there, so that a pull that was interrupted goes on where it was.
// Every byte is checked against its digest before it is kept or written; when anything fails, the
// file at `output_path` is as it was. Errors are those of Fetcher::take and of the disk; kInvalid
// also when `list` is the digest of something that is no list.
// Memory: the list, and at most kChunksInFlight chunks.
Result<Hits> pull(const Digest& list, const std::string& output_path, const Directory& directory,
                  const std::string& address, EventLog& log, const std::stop_token& stop);

inline constexpr std::size_t kChunksInFlight = 24;

}  // namespace imsy::cli::seed
