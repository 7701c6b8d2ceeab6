#include "snapshotter/proof.h"

#include "oci/tar/tar.h"

namespace imsy::snapshotter {
namespace {

// The link that a role names: "anchor"; "data" when there is one data layer, else "data/<i>".
// One spelling each, found by writing all of them: an anchor has few layers.
Result<std::uint32_t> link_of(std::string_view role, std::size_t data_layers) {
  if (role == "anchor") return std::uint32_t{0};
  if (data_layers == 1 && role == "data") return std::uint32_t{1};
  for (std::uint32_t i = 0; data_layers > 1 && i < data_layers; ++i) {
    if (role == "data/" + std::to_string(i)) return i + 1;
  }
  return Error(Errc::kInvalid, std::string(label::kRole) + " names no layer of the anchor");
}

}  // namespace

bool has_claim(const Labels& labels) {
  return !find_label(labels, label::kAnchor).empty();
}

Result<Claim> prove(const Labels& labels) {
  Claim claim;
  claim.chain_id = find_label(labels, label::kRef);
  claim.anchor_text = find_label(labels, label::kAnchor);
  if (claim.chain_id.empty()) {
    return Error(Errc::kInvalid, std::string(label::kRef) + " is missing");
  }
  if (claim.anchor_text.size() > cdc::kAnchorTextLimit) {
    return Error(Errc::kInvalid, std::string(label::kAnchor) + " is too long");
  }
  auto anchor = cdc::Anchor::parse(claim.anchor_text);
  if (!anchor) return anchor.error().with_context(label::kAnchor);
  claim.anchor = std::move(*anchor);
  IMSY_TRY_ASSIGN(claim.link,
                  link_of(find_label(labels, label::kRole), claim.anchor.data_layers.size()));
  IMSY_TRY_ASSIGN(const std::string archive,
                  oci::tar::marker_archive(cdc::kAnchorRecordKey, claim.anchor_text));
  claim.anchor_layer = sha256(archive);
  Digest chain = claim.anchor_layer;
  for (std::uint32_t i = 0; i < claim.link; ++i) {
    chain = cdc::chain_id(chain, claim.anchor.data_layers[i].diff_id);
  }
  if (chain.to_string() != claim.chain_id) {
    return Error(Errc::kCorrupt, "the anchor gives chainID " + chain.to_string() +
                                     ", the layer has " + claim.chain_id);
  }
  if (auto config = Digest::parse(find_label(labels, label::kConfig))) claim.config = *config;
  claim.image_ref = find_label(labels, label::kImageRef);
  return claim;
}

}  // namespace imsy::snapshotter
