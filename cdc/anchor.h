// Anchor: the short text that ties an image's chainID to its CDC manifest.
//
// It is the value of the pax record "IMSY.anchor" in the anchor layer, and of the annotation
// "containerd.io/snapshot/imsy.anchor" on both layers. docs/format/anchor.md.
//
//   imsy-anchor 1
//   manifest sha256:<hex> <header size> <size> <offset> <index of the data layer that holds it>
//   data sha256:<blob hex> <blob size> sha256:<diffID hex>
//   (one "data" line per data layer, bottom first; every line ends with \n)
//
// Promises
//   * Parsing is exact: one spelling per value, so that text and value determine each other.
//   * A parsed anchor is consistent in itself (validate()).
// Threads: plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/result.h"

namespace imsy::cdc {

inline constexpr std::string_view kAnchorRecordKey = "IMSY.anchor";
// Key and value of an annotation must stay below 4,096 bytes for containerd. Room for 22 data
// layers.
inline constexpr std::size_t kAnchorTextLimit = 3900;

struct Anchor {
  struct DataLayer {
    Digest blob;
    std::uint64_t size = 0;  // of the blob, bytes
    Digest diff_id;
    bool operator==(const DataLayer&) const = default;
  };
  Digest manifest;                  // of the CDC manifest's header (which covers all its sections)
  std::uint64_t header_size = 0;    // bytes
  std::uint64_t manifest_size = 0;  // header and sections, bytes
  std::uint64_t manifest_offset = 0;   // of the header's first byte, in the blob that holds it
  std::uint32_t manifest_layer = 0;    // index into data_layers
  std::vector<DataLayer> data_layers;  // bottom first

  // The text, also of an anchor that validate() refuses.
  std::string to_text() const;
  // kInvalid with the line that is wrong; unknown versions are named as such.
  static Result<Anchor> parse(std::string_view text);
  // kInvalid unless there is a data layer, the manifest lies inside the one that it names, the
  // header inside the manifest, and the text is at most kAnchorTextLimit bytes long.
  Status validate() const;
  bool operator==(const Anchor&) const = default;
};

// chainID of a layer on top of `parent` (OCI image-spec, config.md "Layer ChainID"); for the bottom
// layer the chainID is its diffID.
Digest chain_id(const Digest& parent, const Digest& diff_id);

}  // namespace imsy::cdc
