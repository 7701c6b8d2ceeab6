// The data layer: a tree's tar as zstd frames, with the CDC manifest in a skippable frame behind.
//
// Frames hold whole chunks with the tar headers and padding before them; they are compressed on
// several threads and written in order, so the bytes do not depend on the number of threads.
// docs/format/data-layer.md.
// Threads: one caller; compression on `jobs` threads inside. Waits for disk and network.
#pragma once

#include <cstdint>
#include <memory>

#include "cdc/anchor.h"
#include "cdc/frame.h"
#include "cdc/manifest.h"
#include "cdc/profile.h"
#include "common/stream.h"
#include "converter/base_images.h"
#include "converter/content_spool.h"
#include "converter/layer_tree.h"
#include "converter/progress.h"
#include "converter/tar_image.h"

namespace imsy::converter {

struct DataLayerOptions {
  int level = 9;      // of zstd, 1 to 22
  unsigned jobs = 1;  // compressing threads
  cdc::ChunkerParameters chunker;
  // What the nodes hold already; may be null. Its chunks get frames of their own, so that who has
  // them fetches no frame for a few new bytes; its frames are not compressed again.
  std::shared_ptr<const BaseImages> bases;
  // More frames that need not be compressed again; may be null.
  std::shared_ptr<const KnownFrames> known;
};

// A tree ready to be written: its objects are the spool's contents, renumbered.
struct PlannedImage {
  cdc::Tree tree;
  std::vector<std::uint32_t> contents;  // object -> content in the spool
  TarOrder order;
  std::size_t profiled = 0;          // of the files in front, the first ones: those of the profile
  std::uint64_t known_accesses = 0;  // of the profile: paths that are files of this image
  std::uint64_t unknown_accesses = 0;  // of the profile: paths that are no files of this image
};
// The files that `profile` names come first in the tar, in its order; then those with chunks that
// no base has, which an upgrade is going to fetch. `bases` may be null.
Result<PlannedImage> plan_image(LayerTree layers, const ContentSpool& spool,
                                const cdc::Profile& profile = {},
                                const BaseImages* bases = nullptr);

struct DataLayer {
  cdc::Anchor anchor;
  std::string encoder;         // of the frames
  std::uint64_t raw_size = 0;  // of the tar
  std::uint64_t frames = 0;
  std::uint64_t reused_frames = 0;  // not compressed again
  std::uint64_t chunks = 0;
  std::uint64_t manifest_size = 0;
  std::uint64_t mount_size = 0;  // the part of the manifest that a mount needs
};

// Writes the blob to `output`, which the caller then commits under anchor.data_layers[0].blob.
Result<DataLayer> write_data_layer(const PlannedImage& image, const ContentSpool& spool,
                                   const DataLayerOptions& options, ByteWriter& output,
                                   Progress& progress);

}  // namespace imsy::converter
