// Writes and reads the sections behind the tree as docs/format/cdc-manifest.md describes them:
// change both.
#include "cdc/objects_codec.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "cdc/frame.h"

namespace imsy::cdc {
namespace {

constexpr std::uint64_t kTarBlock = 512;
constexpr std::uint64_t kFreeLogical = std::uint64_t{1} << 30;

Error malformed(const std::string& what) {
  return Error(Errc::kCorrupt, what);
}
Error wrong(const std::string& what) {
  return Error(Errc::kInvalid, what);
}

Digest digest_at(ByteSpan plain, std::uint64_t index) {
  return Digest(plain.subspan(index * Digest::kSize).first<Digest::kSize>());
}

// Where the next object in the same tar probably begins: behind the padding and one header.
std::uint64_t expected_offset(std::uint64_t end) {
  return (end + kTarBlock - 1) / kTarBlock * kTarBlock + kTarBlock;
}

// What zstd can make of `raw` bytes: at least a header and, per block of 128 KiB, three bytes of
// block header and one of content; at most the raw blocks.
std::uint64_t stored_size_min(std::uint32_t raw) {
  constexpr std::uint64_t kBlock = 128u << 10;
  return 6 + (raw + kBlock - 1) / kBlock * 4;
}
std::uint64_t stored_size_max(std::uint32_t raw) {
  return std::uint64_t{raw} + raw / 256 + 128;
}

}  // namespace

Result<Objects> ObjectsCodec::from_parts(const ManifestParts& parts) {
  const Tree& tree = *parts.tree;
  if (parts.objects.size() != tree.object_count()) {
    return wrong(std::to_string(parts.objects.size()) + " objects are given, the tree has " +
                 std::to_string(tree.object_count()));
  }
  Objects objects;
  for (std::uint32_t i = 0; i < parts.objects.size(); ++i) {
    const ManifestParts::Object& object = parts.objects[i];
    const std::uint64_t size = tree.object_size(i);
    if (object.digests.size() != object.sizes.size()) {
      return wrong("object " + std::to_string(i) + ": " + std::to_string(object.digests.size()) +
                   " digests, but " + std::to_string(object.sizes.size()) + " sizes");
    }
    if (object.sizes.size() > kNone - 1 - objects.chunks_.size()) return wrong("too many chunks");
    objects.ids_.push_back(object_id(size, object.digests));
    objects.raw_offsets_.push_back(size == 0 ? 0 : object.raw_offset);
    for (std::size_t k = 0; k < object.sizes.size(); ++k) {
      objects.chunks_.push_back({object.digests[k], object.sizes[k], 0, 0});
    }
    objects.first_chunks_.push_back(objects.total_chunks());
  }
  objects.frames_ = parts.frames;
  return objects;
}

ObjectsCodec::Sections ObjectsCodec::encode(const Objects& objects, const Tree& tree) {
  Sections sections;
  Bytes counts;
  Bytes offsets;
  Bytes lengths;
  std::uint64_t expected = 0;
  for (std::uint32_t i = 0; i < objects.count(); ++i) {
    const auto chunks = objects.chunks_of(i);
    put_varint(counts, chunks.size());
    if (chunks.empty()) continue;
    put_varint(offsets, zigzag(static_cast<std::int64_t>(objects.raw_offset(i) - expected)));
    expected = expected_offset(objects.raw_offset(i) + tree.object_size(i));
    const bool single = chunks.size() == 1;
    append(sections.objects.plain, (single ? chunks[0].digest : objects.id(i)).bytes());
    if (single) continue;
    for (const Chunk& chunk : chunks) {
      put_varint(lengths, chunk.size);
      append(sections.chunks.plain, chunk.digest.bytes());
    }
  }
  put_column(sections.objects.columns, counts);
  put_column(sections.objects.columns, offsets);
  put_column(sections.chunks.columns, lengths);

  Bytes layers;
  Bytes raw_sizes;
  Bytes stored_sizes;
  for (std::uint32_t i = 0; i < objects.frame_count();) {
    const std::uint32_t first = i;
    while (i < objects.frame_count() && objects.frame(i).layer == objects.frame(first).layer) {
      put_varint(raw_sizes, objects.frame(i).raw_size);
      put_varint(stored_sizes, objects.frame(i).stored_size);
      ++i;
    }
    put_varint(layers, i - first);
  }
  put_column(sections.frames.columns, layers);
  put_column(sections.frames.columns, raw_sizes);
  put_column(sections.frames.columns, stored_sizes);
  return sections;
}

// --- decode -------------------------------------------------------------------------------------

Result<Objects> ObjectsCodec::decode(const Views& views, const Tree& tree,
                                     const ManifestLimits& limits) {
  Objects objects;
  IMSY_TRY(decode_objects(views.objects, tree, limits, objects));
  IMSY_TRY(decode_chunks(views, tree, objects));
  IMSY_TRY(decode_frames(views.frames, limits, objects));
  return objects;
}

Status ObjectsCodec::decode_objects(const SectionView& view, const Tree& tree,
                                    const ManifestLimits& limits, Objects& objects) {
  ColumnReader reader("objects", view.columns);
  IMSY_TRY_ASSIGN(Column counts, reader.next("chunk counts"));
  IMSY_TRY_ASSIGN(Column offsets, reader.next("raw offsets"));
  IMSY_TRY(reader.finish());
  IMSY_TRY(counts.expect(tree.object_count()));
  objects.first_chunks_.reserve(tree.object_count() + std::size_t{1});
  objects.raw_offsets_.reserve(tree.object_count());
  std::uint64_t total = 0;
  std::uint64_t expected = 0;
  std::uint64_t non_empty = 0;
  for (std::uint32_t i = 0; i < tree.object_count(); ++i) {
    const std::uint32_t count = counts.varint32();
    const std::uint64_t size = tree.object_size(i);
    if ((count == 0) != (size == 0)) {
      return malformed("objects: object " + std::to_string(i) + " has " + std::to_string(size) +
                       " bytes, but " + std::to_string(count) + " chunks");
    }
    total += count;
    if (total > std::min<std::uint64_t>(limits.chunks, kNone - 1)) {
      return wrong("the chunks exceed the limit of " + std::to_string(limits.chunks));
    }
    objects.first_chunks_.push_back(static_cast<std::uint32_t>(total));
    std::uint64_t offset = 0;
    if (count > 0) {
      offset = expected + static_cast<std::uint64_t>(unzigzag(offsets.varint()));
      expected = expected_offset(offset + size);
      ++non_empty;
    }
    objects.raw_offsets_.push_back(offset);
  }
  IMSY_TRY(counts.finish());
  IMSY_TRY(offsets.finish());
  if (view.plain.size() != non_empty * Digest::kSize) {
    return malformed("objects: there is not one digest for each object that is not empty");
  }
  return {};
}

Status ObjectsCodec::decode_chunks(const Views& views, const Tree& tree, Objects& objects) {
  ColumnReader reader("chunks", views.chunks.columns);
  IMSY_TRY_ASSIGN(Column lengths, reader.next("lengths"));
  IMSY_TRY(reader.finish());
  const std::uint64_t total = objects.first_chunks_.back();
  std::uint64_t stored = 0;  // chunks that are listed; the only chunk of an object is not
  for (std::uint32_t i = 0; i < tree.object_count(); ++i) {
    if (objects.chunk_count(i) > 1) stored += objects.chunk_count(i);
  }
  IMSY_TRY(lengths.expect(stored));
  if (views.chunks.plain.size() != stored * Digest::kSize) {
    return malformed("chunks: there is not one digest for each chunk");
  }
  objects.chunks_.reserve(total);
  objects.ids_.reserve(tree.object_count());
  std::uint64_t object_digest = 0;
  std::uint64_t chunk_digest = 0;
  std::vector<ChunkDigest> digests;
  for (std::uint32_t i = 0; i < tree.object_count(); ++i) {
    const std::uint32_t count = objects.chunk_count(i);
    const std::uint64_t size = tree.object_size(i);
    digests.clear();
    if (count == 1) {
      digests.push_back(digest_at(views.objects.plain, object_digest++));
      // A size beyond 32 bits is found when the sum is checked.
      objects.chunks_.push_back({digests[0], static_cast<std::uint32_t>(size), 0, 0});
    }
    for (std::uint32_t k = 0; count > 1 && k < count; ++k) {
      digests.push_back(digest_at(views.chunks.plain, chunk_digest++));
      objects.chunks_.push_back({digests.back(), lengths.varint32(), 0, 0});
    }
    objects.ids_.push_back(object_id(size, digests));
    if (count > 1 && objects.ids_[i] != digest_at(views.objects.plain, object_digest++)) {
      return malformed("object " + std::to_string(i) +
                       ": its id is not the hash of its chunk list");
    }
  }
  return lengths.finish();
}

Status ObjectsCodec::decode_frames(const SectionView& view, const ManifestLimits& limits,
                                   Objects& objects) {
  ColumnReader reader("frames", view.columns);
  IMSY_TRY_ASSIGN(Column layers, reader.next("frames of layer"));
  IMSY_TRY_ASSIGN(Column raw_sizes, reader.next("raw sizes"));
  IMSY_TRY_ASSIGN(Column stored_sizes, reader.next("stored sizes"));
  IMSY_TRY(reader.finish());
  if (!view.plain.empty()) return malformed("frames: bytes behind the columns");
  std::uint64_t raw_offset = 0;
  for (std::uint32_t layer = 0; layers.size() > 0; ++layer) {
    const std::uint32_t count = layers.varint32();
    if (count == 0) return malformed("frames: layer " + std::to_string(layer) + " has none");
    IMSY_TRY(raw_sizes.expect(count));
    if (count > limits.chunks - objects.frames_.size()) {
      return wrong("the frames exceed the limit of " + std::to_string(limits.chunks));
    }
    std::uint64_t stored_offset = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      Frame frame;
      frame.raw_offset = raw_offset;
      frame.raw_size = raw_sizes.varint32();
      frame.stored_size = stored_sizes.varint32();
      frame.stored_offset = stored_offset;
      frame.layer = layer;
      raw_offset += frame.raw_size;
      stored_offset += frame.stored_size;
      objects.frames_.push_back(frame);
    }
  }
  objects.frames_.shrink_to_fit();
  IMSY_TRY(layers.finish());
  IMSY_TRY(raw_sizes.finish());
  return stored_sizes.finish();
}

// --- what must hold -----------------------------------------------------------------------------

Status ObjectsCodec::link(Objects& objects, const Tree& tree, const ChunkerParameters& chunker) {
  IMSY_TRY(set_offsets(objects, tree, chunker));
  IMSY_TRY(check_frames(objects));
  IMSY_TRY(check_ids(objects));
  IMSY_TRY(check_digests(objects));
  return place_chunks(objects, tree);
}

// Chunks cover their object exactly.
Status ObjectsCodec::set_offsets(Objects& objects, const Tree& tree,
                                 const ChunkerParameters& chunker) {
  for (std::uint32_t i = 0; i < objects.count(); ++i) {
    std::uint64_t offset = 0;
    for (std::uint32_t k = objects.first_chunk(i); k < objects.first_chunks_[i + 1]; ++k) {
      Chunk& chunk = objects.chunks_[k];
      if (chunk.size == 0 || chunk.size > chunker.size_max) {
        return wrong("object " + std::to_string(i) + ": a chunk of " + std::to_string(chunk.size) +
                     " bytes, where 1 to " + std::to_string(chunker.size_max) + " are allowed");
      }
      chunk.object_offset = offset;
      offset += chunk.size;
    }
    if (offset != tree.object_size(i)) {
      return wrong("object " + std::to_string(i) + ": its chunks hold " + std::to_string(offset) +
                   " bytes, it has " + std::to_string(tree.object_size(i)));
    }
  }
  return {};
}

// Frames have possible sizes and lie one behind the other, in the raw address space and in each
// blob. With sizes of 32 bits and less than 2^32 frames no sum overflows.
Status ObjectsCodec::check_frames(const Objects& objects) {
  std::uint64_t raw_offset = 0;
  std::uint64_t stored_offset = 0;
  std::uint32_t layer = 0;
  for (std::uint32_t i = 0; i < objects.frame_count(); ++i) {
    const Frame& frame = objects.frame(i);
    const auto name = [&] { return "frame " + std::to_string(i) + ": "; };
    if (i > 0 && frame.layer == layer + 1) {
      layer = frame.layer;
      stored_offset = 0;
    }
    if (frame.layer != layer || frame.raw_offset != raw_offset ||
        frame.stored_offset != stored_offset) {
      return wrong(name() + "does not lie behind the one before it");
    }
    if (frame.raw_size == 0 || frame.raw_size > kFrameLimit) {
      return wrong(name() + std::to_string(frame.raw_size) + " raw bytes, where 1 to " +
                   std::to_string(kFrameLimit) + " are allowed");
    }
    if (frame.stored_size < stored_size_min(frame.raw_size) ||
        frame.stored_size > stored_size_max(frame.raw_size)) {
      return wrong(name() + std::to_string(frame.stored_size) + " stored bytes cannot hold " +
                   std::to_string(frame.raw_size) + " raw bytes");
    }
    raw_offset += frame.raw_size;
    stored_offset += frame.stored_size;
  }
  return {};
}

// No two objects with one id: the tree would have two numbers for one content.
Status ObjectsCodec::check_ids(const Objects& objects) {
  std::vector<std::uint32_t> order(objects.count());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return objects.ids_[a] < objects.ids_[b]; });
  const auto twice = std::adjacent_find(
      order.begin(), order.end(),
      [&](std::uint32_t a, std::uint32_t b) { return objects.ids_[a] == objects.ids_[b]; });
  if (twice == order.end()) return {};
  return wrong("objects " + std::to_string(std::min(twice[0], twice[1])) + " and " +
               std::to_string(std::max(twice[0], twice[1])) + " have the same id " +
               objects.ids_[*twice].to_string());
}

// One digest, one length: whoever looks chunks up by digest must not meet two.
Status ObjectsCodec::check_digests(const Objects& objects) {
  std::vector<std::uint32_t> order(objects.total_chunks());
  std::iota(order.begin(), order.end(), 0u);
  const auto& chunks = objects.chunks_;
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return chunks[a].digest < chunks[b].digest; });
  const auto two =
      std::adjacent_find(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
        return chunks[a].digest == chunks[b].digest && chunks[a].size != chunks[b].size;
      });
  if (two == order.end()) return {};
  return wrong("chunk " + chunks[*two].digest.to_string() + " is said to have two lengths, " +
               std::to_string(chunks[two[0]].size) + " and " + std::to_string(chunks[two[1]].size));
}

// Objects do not overlap, and each chunk lies in one frame. One walk over both in raw order.
Status ObjectsCodec::place_chunks(Objects& objects, const Tree& tree) {
  std::vector<std::uint32_t> order;
  for (std::uint32_t i = 0; i < objects.count(); ++i) {
    if (objects.chunk_count(i) > 0) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return objects.raw_offsets_[a] < objects.raw_offsets_[b];
  });
  const auto raw_end = [&](std::uint32_t frame) {
    return objects.frames_[frame].raw_offset + objects.frames_[frame].raw_size;
  };
  const std::uint64_t total = objects.frame_count() == 0 ? 0 : raw_end(objects.frame_count() - 1);
  objects.frame_chunks_.reserve(objects.chunks_.size());
  objects.frame_first_.assign(objects.frame_count() + std::size_t{1}, 0);
  std::uint64_t end = 0;  // of the object before
  std::uint32_t frame = 0;
  for (const std::uint32_t object : order) {
    const std::uint64_t begin = objects.raw_offsets_[object];
    const std::uint64_t size = tree.object_size(object);
    const auto name = [&] { return "object " + std::to_string(object) + ": "; };
    if (begin < end) return wrong(name() + "overlaps another object");
    if (begin > total || size > total - begin) return wrong(name() + "lies beyond the last frame");
    end = begin + size;
    for (std::uint32_t k = objects.first_chunk(object); k < objects.first_chunks_[object + 1];
         ++k) {
      Chunk& chunk = objects.chunks_[k];
      const std::uint64_t place = begin + chunk.object_offset;
      while (raw_end(frame) <= place) ++frame;
      if (place + chunk.size > raw_end(frame)) {
        return wrong(name() + "a chunk crosses the end of frame " + std::to_string(frame));
      }
      chunk.frame = frame;
      objects.frame_chunks_.push_back(k);
      ++objects.frame_first_[frame + std::size_t{1}];
    }
  }
  std::partial_sum(objects.frame_first_.begin(), objects.frame_first_.end(),
                   objects.frame_first_.begin());
  return {};
}

Status ObjectsCodec::check_blobs(const Objects& objects, const Anchor& anchor) {
  IMSY_TRY(anchor.validate());
  for (std::uint32_t i = 0; i < objects.frame_count(); ++i) {
    const Frame& frame = objects.frame(i);
    if (frame.layer >= anchor.data_layers.size()) {
      return wrong("frame " + std::to_string(i) + " lies in data layer " +
                   std::to_string(frame.layer) + ", of " +
                   std::to_string(anchor.data_layers.size()));
    }
    const std::uint64_t end = frame.layer == anchor.manifest_layer
                                  ? anchor.manifest_offset
                                  : anchor.data_layers[frame.layer].size;
    if (frame.stored_offset + frame.stored_size > end) {
      return wrong("frame " + std::to_string(i) + " lies beyond the frames' end at " +
                   std::to_string(end) + " in the blob of data layer " +
                   std::to_string(frame.layer));
    }
  }
  return {};
}

Status ObjectsCodec::check_limits(const Objects& objects, const Tree& tree,
                                  const ManifestLimits& limits) {
  if (tree.entry_count() > limits.entries) {
    return wrong(std::to_string(tree.entry_count()) + " entries exceed the limit of " +
                 std::to_string(limits.entries));
  }
  if (objects.total_chunks() > limits.chunks || objects.frame_count() > limits.chunks) {
    return wrong("the chunks or frames exceed the limit of " + std::to_string(limits.chunks));
  }
  std::uint64_t raw = 0;
  for (const Frame& frame : objects.frames_) raw += frame.raw_size;
  std::uint64_t logical = 0;
  for (std::uint32_t i = 0; i < tree.inode_count(); ++i) {
    if (__builtin_add_overflow(logical, tree.size_of(tree.inode(i)), &logical) ||
        logical > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
      return wrong("the sizes of all files together exceed 63 bits");
    }
  }
  if (logical > kFreeLogical && logical / limits.logical_ratio > raw) {
    return wrong("the files claim " + std::to_string(logical) + " bytes, more than " +
                 std::to_string(limits.logical_ratio) + " times the " + std::to_string(raw) +
                 " bytes that the frames hold");
  }
  return {};
}

}  // namespace imsy::cdc
