// Directory: the flat folder of `imsy prepare | serve | pull`.
//
// Promises
//   * An entry, a chunk or a list, is the file "<64 hex digits>", named by the SHA-256 of its raw
//   bytes. It appears
//     whole or not at all, also after a crash; a file that was damaged later is replaced.
//   * A name is never followed out of the directory, nor through a symbolic link.
// Threads: all methods from any thread. All may wait for the disk.
// Format: docs/format/seed.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "common/digest.h"
#include "common/io.h"
#include "common/result.h"

namespace imsy::cli::seed {

class Directory {
 public:
  // Opens `path` and creates it first, with its parents (0777 less the umask), when it is not
  // there.
  static Result<Directory> open(const std::filesystem::path& path);

  // The entry's file, open for reading; a regular file, of whatever content. kNotFound when there
  // is none, or something that is not a regular file has its name.
  Result<UniqueFd> open_entry(const Digest& digest) const;

  // The entry, verified. kNotFound; kCorrupt when the bytes do not match; kInvalid when there are
  // more than `limit` of them.
  Result<Bytes> load(const Digest& digest, std::uint64_t limit) const;

  // Keeps `data`, whose SHA-256 the caller knows to be `digest`. A file that holds exactly these
  // bytes already is left alone; any other under that name is replaced.
  Status store(const Digest& digest, ByteSpan data) const;

  // Makes everything that was stored survive a power cut.
  Status sync() const;

 private:
  Directory() = default;
  std::filesystem::path path_;
  UniqueFd fd_;
};

}  // namespace imsy::cli::seed
