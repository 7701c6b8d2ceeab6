// ObjectsCodec: the sections objects, chunks and frames, and what must hold between them and the
// tree. Internal to cdc. docs/format/cdc-manifest.md.
//
// Threads: static functions on plain data.
#pragma once

#include <cstdint>

#include "cdc/column.h"
#include "cdc/manifest.h"
#include "cdc/section.h"

namespace imsy::cdc {

class ObjectsCodec {
 public:
  struct Sections {
    SectionContent objects;
    SectionContent chunks;
    SectionContent frames;
  };
  struct Views {
    SectionView objects;
    SectionView chunks;
    SectionView frames;
  };

  // The parts as Objects, not yet linked. kInvalid: numbers of things do not fit each other.
  static Result<Objects> from_parts(const ManifestParts& parts);
  static Sections encode(const Objects& objects, const Tree& tree);
  // Not yet linked. kCorrupt: malformed, or an object's id is not the hash of its chunk list.
  // kInvalid: more chunks or frames than the limit.
  static Result<Objects> decode(const Views& views, const Tree& tree, const ManifestLimits& limits);

  // Checks everything that holds between tree, chunks and frames, and derives which chunks lie in
  // which frame. kInvalid says what does not hold. O(n log n).
  static Status link(Objects& objects, const Tree& tree, const ChunkerParameters& chunker);
  // kInvalid unless the frames of every layer lie in its blob, before the manifest.
  static Status check_blobs(const Objects& objects, const Anchor& anchor);
  // kInvalid when there is too much of something, or when the files claim far more than the frames
  // hold.
  static Status check_limits(const Objects& objects, const Tree& tree,
                             const ManifestLimits& limits);

 private:
  static Status decode_objects(const SectionView& view, const Tree& tree,
                               const ManifestLimits& limits, Objects& objects);
  static Status decode_chunks(const Views& views, const Tree& tree, Objects& objects);
  static Status decode_frames(const SectionView& view, const ManifestLimits& limits,
                              Objects& objects);
  static Status set_offsets(Objects& objects, const Tree& tree, const ChunkerParameters& chunker);
  static Status check_frames(const Objects& objects);
  static Status check_ids(const Objects& objects);
  static Status check_digests(const Objects& objects);
  static Status place_chunks(Objects& objects, const Tree& tree);
};

}  // namespace imsy::cdc
