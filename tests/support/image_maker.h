// ImageMaker: small converted images in memory, for the tests of the node.
//
// Gives what a registry would hold (blobs), what labels would carry (anchor) and what was put in
// (files by path), so that a test can compare what it reads with what it wrote. The raw data stands
// for a tar: one 512-byte block before each file, padding behind it.
// Made wrongly, it ends the test program with a message: a mistake in a test is not an outcome.
// Threads: a maker belongs to one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cdc/manifest.h"

namespace imsy::test {

struct MadeImage {
  cdc::Anchor anchor;
  std::string anchor_text;
  Bytes manifest_bytes;
  std::shared_ptr<const cdc::Manifest> manifest;
  std::vector<Bytes> blobs;            // the data layers, bottom first
  std::map<std::string, Bytes> files;  // content by path, hard links included

  // The inode and, for a regular file, the object at `path`, which must exist.
  std::uint32_t inode(std::string_view path) const;
  std::uint32_t object(std::string_view path) const;
  // Bytes of all blobs.
  std::uint64_t stored_size() const;
};

class ImageMaker {
 public:
  using Attributes = cdc::TreeBuilder::Attributes;

  ImageMaker();
  ~ImageMaker();

  // Paths are relative, with "/" between names; directories that are missing on the way are made
  // with mode 0755. `attributes.type` is set by the call (node() excepted).
  ImageMaker& root(Attributes attributes);
  ImageMaker& directory(std::string_view path, Attributes attributes = {});
  ImageMaker& file(std::string_view path, Bytes content);  // mode 0644
  ImageMaker& file(std::string_view path, Bytes content, Attributes attributes);
  ImageMaker& file(std::string_view path, std::string_view content);
  ImageMaker& symlink(std::string_view path, std::string target);
  ImageMaker& node(std::string_view path, Attributes attributes);  // device or fifo
  ImageMaker& hard_link(std::string_view path, std::string_view existing);

  ImageMaker& chunker(const cdc::ChunkerParameters& parameters);
  ImageMaker& frame_target(std::uint32_t raw_size);  // raw bytes of a frame
  ImageMaker& layers(std::uint32_t count);           // data layers that share the objects evenly

  MadeImage make() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// `size` bytes that do not compress and depend on `seed` only.
Bytes random_bytes(std::size_t size, std::uint64_t seed);
// `text` as bytes.
Bytes text_bytes(std::string_view text);

}  // namespace imsy::test
