#include "tests/unit/cdc/walk.h"

#include <vector>

#include "cdc/frame.h"

namespace imsy::test {
namespace {

using cdc::Inode;
using cdc::NodeType;
using cdc::Objects;
using cdc::Tree;

std::string walk_xattrs(const Tree& tree, const Inode& inode) {
  std::string previous;
  for (const cdc::Xattr& xattr : tree.xattrs(inode)) {
    if (!cdc::is_legal_xattr(xattr.name)) return "illegal xattr";
    if (xattr.name <= previous) return "xattrs not in order";
    previous = xattr.name;
  }
  return "";
}

std::string walk_inode(const Tree& tree, const Inode& inode) {
  if (inode.mode > 07777 || inode.mtime_ns > 999'999'999) return "attributes out of range";
  if (inode.uid == cdc::kNone || inode.gid == cdc::kNone) return "owner out of range";
  switch (inode.type) {
    case NodeType::kDirectory:
    case NodeType::kFifo:
      if (tree.size_of(inode) != 0) return "a size where none belongs";
      break;
    case NodeType::kRegular:
      if (inode.value >= tree.object_count()) return "object out of range";
      if (tree.size_of(inode) != tree.object_size(inode.value)) return "wrong size";
      break;
    case NodeType::kSymlink:
      if (tree.symlink_target(inode).empty() ||
          tree.size_of(inode) != tree.symlink_target(inode).size()) {
        return "wrong target";
      }
      break;
    case NodeType::kCharDevice:
    case NodeType::kBlockDevice:
      if (inode.type == NodeType::kCharDevice && inode.value == 0 && inode.count == 0) {
        return "a whiteout";
      }
      break;
  }
  return walk_xattrs(tree, inode);
}

std::string walk_tree(const Tree& tree) {
  std::vector<std::uint32_t> links(tree.inode_count());
  std::vector<bool> seen(tree.inode_count());
  std::uint32_t entries = 0;
  seen[0] = true;
  links[0] = 2;
  if (tree.inode(0).type != NodeType::kDirectory || tree.parent_of(0) != 0) return "no root";
  for (std::uint32_t i = 0; i < tree.inode_count(); ++i) {
    const Inode& inode = tree.inode(i);
    if (const std::string problem = walk_inode(tree, inode); !problem.empty()) return problem;
    if (!seen[i]) return "an inode before the entry that names it";
    if (inode.type != NodeType::kDirectory) continue;
    if (tree.path_of(i).size() > cdc::kPathLimit) return "path too long";
    std::string_view previous;
    for (const cdc::Entry& entry : tree.entries_of(inode)) {
      const std::string_view name = tree.name(entry);
      ++entries;
      if (!cdc::is_legal_name(name) || name <= previous) return "illegal name, or not in order";
      previous = name;
      if (entry.inode >= tree.inode_count()) return "inode out of range";
      if (tree.find(inode, name) != &entry) return "find() does not find an entry";
      const bool is_directory = tree.inode(entry.inode).type == NodeType::kDirectory;
      if (is_directory && (seen[entry.inode] || tree.parent_of(entry.inode) != i)) {
        return "a directory with two parents";
      }
      seen[entry.inode] = true;
      links[entry.inode] += is_directory ? 2 : 1;
      if (is_directory) ++links[i];
    }
    if (tree.find(inode, std::string(previous) + "x") != nullptr) return "find() finds too much";
  }
  if (entries != tree.entry_count()) return "entries outside of directories";
  for (std::uint32_t i = 0; i < tree.inode_count(); ++i) {
    if (links[i] != tree.inode(i).link_count) return "wrong link count";
  }
  return "";
}

std::string walk_objects(const Tree& tree, const Objects& objects, std::uint32_t size_max) {
  if (objects.count() != tree.object_count()) return "another number of objects";
  for (std::uint32_t i = 0; i < objects.count(); ++i) {
    std::uint64_t offset = 0;
    std::vector<cdc::ChunkDigest> digests;
    std::uint32_t index = objects.first_chunk(i);
    for (const cdc::Chunk& chunk : objects.chunks_of(i)) {
      if (chunk.size == 0 || chunk.size > size_max) return "chunk size out of range";
      if (chunk.object_offset != offset) return "chunks do not follow each other";
      if (objects.object_of_chunk(index) != i) return "a chunk of another object";
      if (objects.chunk_at(i, offset) != index ||
          objects.chunk_at(i, offset + chunk.size - 1) != index) {
        return "chunk_at() is wrong";
      }
      const cdc::Frame& frame = objects.frame(objects.frame_of_chunk(index));
      const std::uint32_t inside = objects.offset_in_frame(index);
      if (inside > frame.raw_size || chunk.size > frame.raw_size - inside) {
        return "a chunk outside of its frame";
      }
      if (frame.raw_offset + inside != objects.raw_offset(i) + offset) return "wrong raw place";
      digests.push_back(chunk.digest);
      offset += chunk.size;
      ++index;
    }
    if (offset != tree.object_size(i)) return "chunks do not cover their object";
    if (objects.id(i) != cdc::object_id(offset, digests)) return "wrong object id";
  }
  return "";
}

std::string walk_frames(const Objects& objects) {
  std::vector<bool> seen(objects.total_chunks());
  std::uint64_t raw = 0;
  for (std::uint32_t i = 0; i < objects.frame_count(); ++i) {
    const cdc::Frame& frame = objects.frame(i);
    if (frame.raw_offset != raw || frame.raw_size == 0 || frame.raw_size > cdc::kFrameLimit) {
      return "wrong frame";
    }
    raw += frame.raw_size;
    std::uint64_t end = 0;
    for (const std::uint32_t chunk : objects.chunks_in_frame(i)) {
      if (chunk >= seen.size() || seen[chunk]) return "a chunk in two frames";
      seen[chunk] = true;
      if (objects.frame_of_chunk(chunk) != i) return "a chunk of another frame";
      if (objects.offset_in_frame(chunk) < end) return "chunks of a frame overlap";
      end = objects.offset_in_frame(chunk) + std::uint64_t{objects.chunk(chunk).size};
    }
  }
  for (const bool there : seen) {
    if (!there) return "a chunk in no frame";
  }
  return "";
}

}  // namespace

std::string walk(const cdc::Manifest& manifest) {
  const Objects& objects = manifest.objects();
  std::string problem = walk_tree(manifest.tree());
  if (problem.empty()) {
    problem = walk_objects(manifest.tree(), objects, manifest.header().chunker.size_max);
  }
  if (problem.empty()) problem = walk_frames(objects);
  return problem;
}

}  // namespace imsy::test
