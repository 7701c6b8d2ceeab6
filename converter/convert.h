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

namespace imsy::converter {

struct ConvertOptions {
  DataLayerOptions data_layer;
  InputOptions input;
  cdc::Profile profile;             // what a container reads first comes first
  std::string platform;             // "os/arch[/variant]": only this one of an index; "": all
  std::filesystem::path temporary;  // directory of the spool
};

struct ImageReport {
  std::string platform;
  Digest source;    // manifest that was read
  Digest manifest;  // manifest that was written
  Digest artifact;
  DataLayer data_layer;
  std::uint64_t inodes = 0;
  std::uint64_t content_bytes = 0;  // distinct file contents
  LayerWarnings warnings;
  std::uint64_t front_files = 0;       // that the profile put in front
  std::uint64_t unknown_accesses = 0;  // of the profile: paths that are no files of this image
};

struct ConvertReport {
  Digest digest;  // of what the destination's tag now names
  std::vector<ImageReport> images;
};

// Converts what `source` names in `from` into `target` in `to`, there with the tag "latest" when
// the target has none, and finishes `to`.
Result<ConvertReport> convert(oci::ImageSource& from, const Location& source, oci::ImageTarget& to,
                              const Location& target, const ConvertOptions& options,
                              Progress& progress);

}  // namespace imsy::converter
