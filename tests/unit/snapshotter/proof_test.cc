#include "snapshotter/proof.h"

#include <gtest/gtest.h>

#include "oci/tar/tar.h"

namespace imsy::snapshotter {
namespace {

cdc::Anchor anchor(std::size_t layers) {
  cdc::Anchor anchor;
  anchor.manifest = sha256("manifest");
  anchor.header_size = 200;
  anchor.manifest_size = 5000;
  anchor.manifest_offset = 10'000;
  for (std::size_t i = 0; i < layers; ++i) {
    anchor.data_layers.push_back(
        {sha256("blob" + std::to_string(i)), 20'000 + i, sha256("layer" + std::to_string(i))});
  }
  return anchor;
}

Digest anchor_layer(const cdc::Anchor& anchor) {
  return sha256(*oci::tar::marker_archive(cdc::kAnchorRecordKey, anchor.to_text()));
}

// The chainID of link `link`, by the definition of the image specification.
std::string chain(const cdc::Anchor& anchor, std::size_t link) {
  std::string id = anchor_layer(anchor).to_string();
  for (std::size_t i = 0; i < link; ++i) {
    id = sha256(id + " " + anchor.data_layers[i].diff_id.to_string()).to_string();
  }
  return id;
}

Labels labels(const cdc::Anchor& anchor, const std::string& role, const std::string& ref) {
  return {{"containerd.io/snapshot.ref", ref},
          {"containerd.io/snapshot/imsy.anchor", anchor.to_text()},
          {"containerd.io/snapshot/imsy.role", role},
          {"containerd.io/snapshot/imsy.config", sha256("config").to_string()},
          {"containerd.io/snapshot/cri.image-ref", "registry.example:5000/web:1"}};
}

void expect_error(const Labels& labels, Errc code) {
  const auto claim = prove(labels);
  ASSERT_FALSE(claim);
  EXPECT_EQ(claim.error().code(), code) << claim.error().message();
}

TEST(Proof, HoldsForEveryLinkOfAnImage) {
  const auto one = anchor(1);
  auto claim = prove(labels(one, "anchor", chain(one, 0)));
  ASSERT_TRUE(claim) << claim.error().message();
  EXPECT_EQ(claim->link, 0U);
  EXPECT_FALSE(claim->is_top());
  EXPECT_EQ(claim->anchor, one);
  EXPECT_EQ(claim->anchor_text, one.to_text());
  EXPECT_EQ(claim->anchor_layer, anchor_layer(one));
  EXPECT_EQ(claim->chain_id, chain(one, 0));
  EXPECT_EQ(claim->config, sha256("config"));
  EXPECT_EQ(claim->image_ref, "registry.example:5000/web:1");

  claim = prove(labels(one, "data", chain(one, 1)));
  ASSERT_TRUE(claim) << claim.error().message();
  EXPECT_EQ(claim->link, 1U);
  EXPECT_TRUE(claim->is_top());

  const auto three = anchor(3);
  for (std::size_t i = 0; i < 3; ++i) {
    claim = prove(labels(three, "data/" + std::to_string(i), chain(three, i + 1)));
    ASSERT_TRUE(claim) << claim.error().message();
    EXPECT_EQ(claim->link, i + 1);
    EXPECT_EQ(claim->is_top(), i == 2);
  }
}

// The bytes whose digest is the chainID must never change: images that exist depend on them.
TEST(Proof, GoldenAnchorLayer) {
  EXPECT_EQ(anchor_layer(anchor(1)).hex(),
            "5e43c6ab70d8f682e736152d74d59469af1d92b165e234b43ebb03b8c62a99fb");
}

TEST(Proof, AnotherChainIdIsNotBelieved) {
  const auto one = anchor(1);
  expect_error(labels(one, "anchor", chain(one, 1)), Errc::kCorrupt);
  expect_error(labels(one, "data", chain(one, 0)), Errc::kCorrupt);
  expect_error(labels(one, "anchor", sha256("popular base").to_string()), Errc::kCorrupt);
  expect_error(labels(one, "anchor", chain(one, 0) + " "), Errc::kCorrupt);
  auto other = one;
  other.manifest = sha256("other manifest");
  expect_error(labels(other, "anchor", chain(one, 0)), Errc::kCorrupt);
  other = one;
  other.data_layers[0].blob = sha256("other blob");
  expect_error(labels(other, "data", chain(one, 1)), Errc::kCorrupt);
}

TEST(Proof, RolesHaveOneSpelling) {
  const auto one = anchor(1);
  const auto two = anchor(2);
  for (const char* role : {"", "Anchor", "data/0", "data/1", "data/", "data/00", "manifest"}) {
    expect_error(labels(one, role, chain(one, 1)), Errc::kInvalid);
  }
  for (const char* role : {"data", "data/2", "data/-1", "data/01", "data/1 "}) {
    expect_error(labels(two, role, chain(two, 1)), Errc::kInvalid);
  }
}

TEST(Proof, MalformedAnchorsAreInvalid) {
  const auto one = anchor(1);
  auto bad = labels(one, "anchor", chain(one, 0));
  bad["containerd.io/snapshot/imsy.anchor"] += "\n";
  expect_error(bad, Errc::kInvalid);
  bad["containerd.io/snapshot/imsy.anchor"] = "imsy-anchor 2\n";
  expect_error(bad, Errc::kInvalid);
  bad["containerd.io/snapshot/imsy.anchor"] = std::string(10'000, 'x');
  expect_error(bad, Errc::kInvalid);
  bad = labels(one, "anchor", "");
  expect_error(bad, Errc::kInvalid);
}

TEST(Proof, HintsAreOptionalAndBadOnesIgnored) {
  const auto one = anchor(1);
  auto sparse = labels(one, "anchor", chain(one, 0));
  sparse["containerd.io/snapshot/imsy.config"] = "latest";
  sparse.erase("containerd.io/snapshot/cri.image-ref");
  const auto claim = prove(sparse);
  ASSERT_TRUE(claim);
  EXPECT_FALSE(claim->config);
  EXPECT_EQ(claim->image_ref, "");
}

TEST(Proof, OnlyAnAnchorMakesAClaim) {
  EXPECT_FALSE(has_claim({}));
  EXPECT_FALSE(has_claim({{"containerd.io/snapshot.ref", "sha256:x"},
                          {"containerd.io/snapshot/imsy.role", "anchor"}}));
  EXPECT_TRUE(has_claim({{"containerd.io/snapshot/imsy.anchor", "anything"}}));
}

}  // namespace
}  // namespace imsy::snapshotter
