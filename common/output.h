// Output: a file that a user names for what a program writes.
//
// Promises
//   * A regular file is replaced when all is written, and not touched before; its permissions and a
//     symbolic link to it stay. Without commit() nothing remains.
//   * Something else (a pipe, a terminal, /dev/null) cannot be replaced: it is written to directly.
// Threads: one thread.
#pragma once

#include <filesystem>
#include <optional>

#include "common/io.h"
#include "common/stream.h"

namespace imsy {

class Output : public ByteWriter {
 public:
  static Result<Output> open(const std::filesystem::path& path);

  Status write(ByteSpan data) override;
  // Makes the file appear, safe against a power cut.
  Status commit();

 private:
  explicit Output(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;
  std::optional<AtomicFile> replacement_;
  UniqueFd direct_;
};

}  // namespace imsy
