// Conversion of an image: read its layers, squash them, chunk, write, publish.
//
// Promises
//   * The result runs on every runtime that unpacks tar+zstd, and has the original's tree.
//   * Deterministic: the same input and options give the same bytes, with any number of threads.
//   * Nothing is published before it is complete: blobs first, then manifests, the tag last.
// Threads: convert() from one thread; it starts its own. Waits for network and disk.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "converter/data_layer.h"
#include "converter/layer_reader.h"
#include "converter/location.h"
#include "converter/progress.h"
#include "converter/transfer.h"

namespace imsy::converter {

struct ConvertOptions {
  DataLayerOptions data_layer;
  InputOptions input;
  cdc::Profile profile;                  // what a container reads first comes first
  std::vector<oci::Platform> platforms;  // only these; none: all that can be converted
  bool force = false;                    // convert also what the target has already
  std::filesystem::path temporary;       // directory of the spool
};

struct ImageReport {
  std::string platform;
  Digest source;                   // manifest that was read
  Digest manifest;                 // manifest that was written
  std::optional<Digest> artifact;  // nothing where it has no place, in archives
  bool reused = false;  // it was in the target; then nothing below is known but the anchor
  DataLayer data_layer;
  std::uint64_t inodes = 0;
  std::uint64_t content_bytes = 0;  // distinct file contents
  LayerWarnings warnings;
  std::uint64_t front_files = 0;       // that the profile names: they stand first
  std::uint64_t unknown_accesses = 0;  // of the profile: paths that are no files of this image
  Transfers transfers;
};

// An entry of an index that could not be carried through.
struct LeftOut {
  Digest digest;
  std::string reason;
};

struct ConvertReport {
  Digest digest;  // of what the destination's tag now names
  std::vector<ImageReport> images;
  std::vector<Digest> carried;  // entries of an index that went through as they are
  Transfers carried_transfers;
  std::vector<LeftOut> left_out;
};

// Converts what `source` names in `from` into `target` in `to`, there with the tag "latest" when
// the target has none, and finishes `to`.
//
// Images for Linux are converted. An index stays an index, and what else stands in it is carried
// through as it is; with platforms chosen, only attestations of the chosen images are. What cannot
// be carried is left out with a warning. kNotFound: no image for a chosen platform, or something
// is missing; kInvalid: the source, or the only thing it names, cannot be converted; kCorrupt: the
// source is damaged.
Result<ConvertReport> convert(oci::ImageSource& from, const Location& source, oci::ImageTarget& to,
                              const Location& target, const ConvertOptions& options,
                              Progress& progress);

}  // namespace imsy::converter
