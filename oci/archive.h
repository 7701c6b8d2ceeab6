// Archive: the files in a tar file by name, for images that are kept in archives.
//
// The archive is read once, from its first byte to its last; after that files are read where they
// lie. Nothing is ever unpacked: names are keys of a map, and a link in the archive leads to
// another file of the archive or nowhere.
// Hostile until checked: at most 65,536 members with names of at most 1,024 bytes, no "..", no name
// twice (readers would disagree about which one counts), no sparse members.
// Threads: immutable once opened, so any; opening waits for the disk, a pipe waits for its writer.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "common/io.h"
#include "oci/file_set.h"

namespace imsy::oci {

class Archive : public FileSet {
 public:
  // Opens `file`; "-" is the standard input. What cannot be read at any place (a pipe, gzip or
  // zstd) is kept, inflated, in an unnamed file in `temporary`. kCorrupt: no tar, or cut short;
  // kInvalid: refused for the reasons above.
  static Result<std::unique_ptr<const Archive>> open(const std::filesystem::path& file,
                                                     const std::filesystem::path& temporary);
  // The same with a file that is open.
  static Result<std::unique_ptr<const Archive>> read(UniqueFd file,
                                                     const std::filesystem::path& temporary);

  Result<File> open(const std::string& path) const override;

 private:
  struct Member {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::string link;  // another member's name; then the numbers above mean nothing
  };
  class Indexer;

  std::shared_ptr<const UniqueFd> file_;
  std::map<std::string, Member> members_;
};

// The path an archive's name means: "./a//b" is "a/b". kInvalid for "..".
Result<std::string> archive_path(std::string_view name);

// `file` for reading; "-" is the standard input.
Result<UniqueFd> open_input(const std::filesystem::path& file);
// Whether a file can be read at any place, and more than once.
bool is_seekable(const UniqueFd& file);
// Whether a seekable file is neither gzip nor zstd.
bool is_plain(const UniqueFd& file);

}  // namespace imsy::oci
