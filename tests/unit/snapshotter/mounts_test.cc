#include "snapshotter/mounts.h"

#include <gtest/gtest.h>

namespace imsy::snapshotter {
namespace {

const Layout kLayout("/r");

Layer plain(std::int64_t directory) {
  return {directory + 100, directory, Kind::kCommitted, std::nullopt};
}
Layer anchor_in(std::int64_t directory) {
  return {directory + 100, directory, Kind::kCommitted, ImageLink{7, 0, false}};
}
Layer data(std::uint32_t link, bool top) {
  return {200, std::nullopt, Kind::kCommitted, ImageLink{7, link, top}};
}

std::vector<Mount> mounts(Kind kind, const std::vector<Layer>& chain, bool index_off = false) {
  const auto found = below(kLayout, chain);
  EXPECT_TRUE(found);
  return mounts_for(kLayout, {index_off}, 9, kind, *found);
}

using Mounts = std::vector<Mount>;

TEST(Mounts, WithoutParents) {
  EXPECT_EQ(mounts(Kind::kActive, {}), (Mounts{{"bind", "/r/snapshots/9/fs", {"rw", "rbind"}}}));
  EXPECT_EQ(mounts(Kind::kView, {}), (Mounts{{"bind", "/r/snapshots/9/fs", {"ro", "rbind"}}}));
}

TEST(Mounts, ViewOfOneLayerIsThatLayer) {
  EXPECT_EQ(mounts(Kind::kView, {plain(1)}),
            (Mounts{{"bind", "/r/snapshots/1/fs", {"ro", "rbind"}}}));
}

TEST(Mounts, ViewOfSeveralLayersHasNoUpper) {
  EXPECT_EQ(mounts(Kind::kView, {plain(2), plain(1)}),
            (Mounts{{"overlay", "overlay", {"lowerdir=/r/snapshots/2/fs:/r/snapshots/1/fs"}}}));
}

TEST(Mounts, ActiveIsAnOverlayNearestFirst) {
  EXPECT_EQ(mounts(Kind::kActive, {plain(2), plain(1)}),
            (Mounts{{"overlay",
                     "overlay",
                     {"workdir=/r/snapshots/9/work", "upperdir=/r/snapshots/9/fs",
                      "lowerdir=/r/snapshots/2/fs:/r/snapshots/1/fs"}}}));
}

TEST(Mounts, IndexIsSwitchedOffOnOverlaysOnly) {
  EXPECT_EQ(mounts(Kind::kActive, {plain(1)}, true).front().options.back(), "index=off");
  EXPECT_EQ(mounts(Kind::kActive, {}, true).front().options,
            (std::vector<std::string>{"rw", "rbind"}));
}

TEST(Mounts, AnImageIsOneDirectory) {
  const std::vector<Layer> image = {data(1, true), anchor_in(1)};
  EXPECT_EQ(mounts(Kind::kActive, image),
            (Mounts{{"overlay",
                     "overlay",
                     {"workdir=/r/snapshots/9/work", "upperdir=/r/snapshots/9/fs",
                      "lowerdir=/r/mnt/7"}}}));
  EXPECT_EQ(mounts(Kind::kView, image), (Mounts{{"bind", "/r/mnt/7", {"ro", "rbind"}}}));
  const auto found = below(kLayout, image);
  EXPECT_EQ(found->kind, MountKind::kLazy);
  EXPECT_EQ(found->slot, 7);
}

TEST(Mounts, OrdinaryLayersMayLieAboveAnImage) {
  const std::vector<Layer> chain = {plain(3), plain(2), data(2, true), data(1, false),
                                    anchor_in(1)};
  EXPECT_EQ(mounts(Kind::kView, chain).front().options,
            (std::vector<std::string>{"lowerdir=/r/snapshots/3/fs:/r/snapshots/2/fs:/r/mnt/7"}));
}

TEST(Mounts, AnAnchorAloneIsAnEmptyDirectory) {
  const auto found = below(kLayout, std::vector<Layer>{anchor_in(1)});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->directories, (std::vector<std::string>{"/r/snapshots/1/fs"}));
  EXPECT_EQ(found->kind, MountKind::kPlain);
  EXPECT_FALSE(found->slot);
}

TEST(Mounts, PartOfAnImageCannotBeShown) {
  for (const auto& chain : {std::vector<Layer>{data(1, false), anchor_in(1)},
                            std::vector<Layer>{plain(2), data(1, false), anchor_in(1)}}) {
    const auto found = below(kLayout, chain);
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code(), Errc::kFailedPrecondition);
  }
}

}  // namespace
}  // namespace imsy::snapshotter
