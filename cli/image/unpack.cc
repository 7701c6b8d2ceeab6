#include "cli/image/unpack.h"

#include <algorithm>
#include <string>

#include "cli/image/raw_reader.h"
#include "cli/image/tree_writer.h"

namespace imsy::cli::image {
namespace {

Status write_chunks(const FrameReader& frames, const cdc::Objects& objects, TreeWriter& tree) {
  IMSY_TRY(frames.check_chunks());
  for (const std::uint32_t index : objects.chunks_in_frame(frames.frame())) {
    const cdc::Chunk& chunk = objects.chunk(index);
    IMSY_TRY(tree.write(objects.object_of_chunk(index), chunk.object_offset,
                        frames.raw().subspan(objects.offset_in_frame(index), chunk.size)));
  }
  return {};
}

// The tar has each file's content, so files cannot be larger. Else a small image could ask for
// copies without end: those of holes do not even fill the disk.
Status check_sizes(const converter::ProvedImage& image) {
  const cdc::Tree& tree = image.manifest->tree();
  std::uint64_t size = 0;  // below 2^63: the CDC manifest was checked
  for (std::uint32_t i = 0; i < tree.inode_count(); ++i) {
    if (tree.inode(i).type == cdc::NodeType::kRegular) size += tree.size_of(tree.inode(i));
  }
  if (size <= image.raw_size()) return {};
  return Error(Errc::kCorrupt, "the CDC manifest has files of " + std::to_string(size) +
                                   " bytes, but the tar has " + std::to_string(image.raw_size()));
}

}  // namespace

Status unpack(oci::ImageSource& source, const converter::ProvedImage& image,
              const std::filesystem::path& directory, const std::stop_token& stop) {
  IMSY_TRY(check_sizes(image));
  IMSY_TRY_ASSIGN(const auto tree, TreeWriter::create(directory, image.manifest->tree(), stop));
  const cdc::Objects& objects = image.manifest->objects();
  for (std::uint32_t layer = 0; layer < image.anchor.data_layers.size(); ++layer) {
    IMSY_TRY_ASSIGN(const auto blob, source.open_blob(image.image.manifest.layers[layer + 1]));
    FrameReader frames(*blob, objects, layer);
    for (;;) {
      IMSY_TRY_ASSIGN(const bool more, frames.next());
      if (!more) break;
      IMSY_TRY(write_chunks(frames, objects, *tree));
    }
    IMSY_TRY(read_to_end(*blob));
  }
  return tree->finish();
}

Status unpack(const Squashed& image, const std::filesystem::path& directory,
              const std::stop_token& stop) {
  IMSY_TRY_ASSIGN(const auto tree, TreeWriter::create(directory, image.plan.tree, stop));
  Bytes buffer(1u << 20);
  for (std::uint32_t object = 0; object < image.plan.contents.size(); ++object) {
    const std::uint32_t content = image.plan.contents[object];
    const std::uint64_t size = image.spool.size(content);
    for (std::uint64_t offset = 0; offset < size; offset += buffer.size()) {
      const auto piece = std::span(buffer).first(
          static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), size - offset)));
      IMSY_TRY(image.spool.read(content, offset, piece));
      IMSY_TRY(tree->write(object, offset, piece));
    }
  }
  return tree->finish();
}

}  // namespace imsy::cli::image
