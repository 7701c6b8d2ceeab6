// Proof: that a chainID is the chain of an imsy image, shown from labels alone.
//
// The bottom layer of an imsy image is a tar whose only content is the anchor text, so its SHA-256
// can be computed from the label that carries the text. If that is the chainID under which the
// client will commit the layer, then whoever shares this chainID shares this anchor, and with it
// the digest of the CDC manifest. The chainIDs of the data layers follow from the anchor's diffIDs.
// An image's author can put anything into the labels, but nothing that makes a false claim hold.
// Threads: pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cdc/anchor.h"
#include "common/result.h"
#include "snapshotter/types.h"

namespace imsy::snapshotter {

// A layer of an imsy image whose labels agree with each other. That it stands on the right parent
// is for the caller to check.
struct Claim {
  cdc::Anchor anchor;
  std::string anchor_text;
  Digest anchor_layer;     // diffID and chainID of the anchor layer
  std::uint32_t link = 0;  // 0: anchor layer; i + 1: data layer i
  std::string chain_id;    // of this layer, as the client spells it
  // Hints for finding the registry; nothing below is proved.
  std::optional<Digest> config;  // of the image
  std::string image_ref;

  bool is_top() const { return link == anchor.data_layers.size(); }
};

// Whether these labels name an imsy layer at all. Cheap.
bool has_claim(const Labels& labels);

// kInvalid: a label is malformed. kCorrupt: the chainID is not that of this anchor.
Result<Claim> prove(const Labels& labels);

}  // namespace imsy::snapshotter
