// FileSet: files by name, in a directory or in an archive; and readers of them.
//
// Threads: see the implementations; a reader belongs to one thread and may wait for the disk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "common/digest.h"
#include "common/io.h"
#include "common/stream.h"
#include "oci/descriptor.h"

namespace imsy::oci {

// `size` bytes of a file from `offset` on. Ends early where the file does.
class FileRange : public ByteReader {
 public:
  FileRange(std::shared_ptr<const UniqueFd> file, std::uint64_t offset, std::uint64_t size)
      : file_(std::move(file)), offset_(offset), left_(size) {}

  Result<std::size_t> read(std::span<std::byte> buffer) override;
  // The next `bytes`, or all that are left, are not read.
  void skip(std::uint64_t bytes);

 private:
  const std::shared_ptr<const UniqueFd> file_;
  std::uint64_t offset_;
  std::uint64_t left_;
};

class FileSet {
 public:
  struct File {
    std::uint64_t size = 0;
    std::unique_ptr<FileRange> content;  // may outlive the set
  };

  virtual ~FileSet() = default;

  // The regular file `path` ("blobs/sha256/0123..."). kNotFound when there is none. The message
  // names the file but not the set.
  virtual Result<File> open(const std::string& path) const = 0;
};

// A whole document, which kDocumentLimit bounds.
Result<std::string> read_document(const FileSet& files, const std::string& path);

// A stream that is checked when its end is reached: ends with kCorrupt, "<what>: <complaint>, " and
// which of the two is wrong, unless it had `size` bytes with `digest`.
class CheckedReader : public ByteReader {
 public:
  CheckedReader(std::unique_ptr<ByteReader> input, std::uint64_t size, const Digest& digest,
                std::string what, std::string complaint = "is damaged");

  Result<std::size_t> read(std::span<std::byte> buffer) override;

 private:
  const std::unique_ptr<ByteReader> input_;
  const std::uint64_t size_;
  const Digest digest_;
  const std::string what_;
  const std::string complaint_;
  Hasher hasher_;
  std::uint64_t seen_ = 0;
  bool finished_ = false;
  bool right_ = false;
};

}  // namespace imsy::oci
