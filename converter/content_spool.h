// ContentSpool: the contents of an image's files between reading its layers and writing the data
// layer, chunked and hashed as they come in, each distinct content once.
//
// The bytes lie in one unnamed temporary file (at most the sum of the distinct contents; runs of
// zeros take no room); memory holds the chunk digests only.
// Threads: add() from one thread; read() and the const methods from any thread once adding is over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <unordered_map>
#include <vector>

#include "cdc/chunker.h"
#include "cdc/object_id.h"
#include "common/io.h"
#include "common/stream.h"

namespace imsy::converter {

class ContentSpool {
 public:
  // The spool's file is made in `dir`. kNoSpace and other file errors name it.
  static Result<ContentSpool> create(const std::filesystem::path& dir,
                                     const cdc::ChunkerParameters& parameters);

  // Adding is over: frees what only that needs.
  void seal() { by_id_ = {}; }

  // Reads exactly `size` bytes from `input` and keeps them. Returns the number of the content;
  // equal contents get the same number. Waits for `input` and the disk.
  Result<std::uint32_t> add(ByteReader& input, std::uint64_t size);

  std::uint32_t count() const { return static_cast<std::uint32_t>(contents_.size()); }
  std::uint64_t size(std::uint32_t content) const { return contents_[content].size; }
  std::span<const cdc::ChunkDigest> digests(std::uint32_t content) const;
  std::span<const std::uint32_t> chunk_sizes(std::uint32_t content) const;

  // Bytes of a content, from `offset`.
  Status read(std::uint32_t content, std::uint64_t offset, std::span<std::byte> buffer) const;

 private:
  struct Content {
    std::uint64_t size = 0;
    std::uint64_t place = 0;  // in the spool
    std::uint64_t first_chunk = 0;
    std::uint32_t chunks = 0;
  };

  ContentSpool(UniqueFd file, const cdc::ChunkerParameters& parameters);
  Status add_chunk(ByteSpan chunk);
  Status fill(ByteReader& input, std::uint64_t& left);

  UniqueFd file_;
  cdc::Chunker chunker_;
  std::uint64_t end_ = 0;  // of what is kept
  std::vector<Content> contents_;
  std::vector<cdc::ChunkDigest> digests_;
  std::vector<std::uint32_t> sizes_;
  std::unordered_map<cdc::ObjectId, std::uint32_t> by_id_;
  Bytes window_;  // bytes read and not yet chunked: [begin_, filled_)
  std::size_t begin_ = 0;
  std::size_t filled_ = 0;
};

}  // namespace imsy::converter
