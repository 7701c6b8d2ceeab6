#include "fuse/mount_table.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace imsy::fuse {
namespace {

TEST(ParseMountinfoTest, ReadsDeviceDirectoryTypeAndRoot) {
  const auto entries = parse_mountinfo(
      "22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n"
      "41 22 0:36 /7 /run/imsy/mnt ro,nosuid,nodev shared:7 - fuse.imsy imsy ro,user_id=0\n");
  const std::vector<MountEntry> expected = {{"254:0", "/", "ext4", "/"},
                                            {"0:36", "/run/imsy/mnt", "fuse.imsy", "/7"}};
  EXPECT_EQ(entries, expected);
}

TEST(ParseMountinfoTest, TagsBeforeTheDashMayBeManyOrNone) {
  const auto entries = parse_mountinfo(
      "1 2 0:1 / /a rw - tmpfs t rw\n"
      "1 2 0:2 / /b rw shared:1 master:2 propagate_from:3 - tmpfs t rw\n");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].type, "tmpfs");
  EXPECT_EQ(entries[1].type, "tmpfs");
}

TEST(ParseMountinfoTest, UnescapesDirectories) {
  const auto entries = parse_mountinfo("1 2 0:1 / /a\\040b\\011c\\012d\\134e rw - tmpfs t rw\n");
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].directory, "/a b\tc\nd\\e");
}

TEST(ParseMountinfoTest, ABackslashWithoutThreeOctalDigitsStays) {
  const auto entries = parse_mountinfo("1 2 0:1 / /a\\04 rw - tmpfs t rw\n");
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].directory, "/a\\04");
}

TEST(ParseMountinfoTest, LeavesOutLinesItDoesNotUnderstand) {
  EXPECT_TRUE(parse_mountinfo("").empty());
  EXPECT_TRUE(parse_mountinfo("\n\n").empty());
  EXPECT_TRUE(parse_mountinfo("1 2 0:1 / /a rw").empty());
  EXPECT_TRUE(parse_mountinfo("1 2 0:1 / /a rw shared:1 -").empty());
}

TEST(ParseMountinfoTest, TheLastLineNeedsNoNewline) {
  EXPECT_EQ(parse_mountinfo("1 2 0:1 / /a rw - tmpfs t rw").size(), 1u);
}

TEST(MountsAtTest, FindsTheRootAndNothingBelowAFreshDirectory) {
  const auto root = mounts_at("/");
  ASSERT_TRUE(root);
  EXPECT_FALSE(root->empty());
  const auto none = mounts_at("/no/such/directory");
  ASSERT_TRUE(none);
  EXPECT_TRUE(none->empty());
}

class MountPathTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "imsy-mount-path-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    base_ = std::filesystem::canonical(name);
    std::filesystem::create_directory(base_ / "real");
    std::filesystem::create_directory_symlink("real", base_ / "link");
  }
  void TearDown() override { std::filesystem::remove_all(base_); }

  std::filesystem::path base_;
};

TEST_F(MountPathTest, FollowsLinksInParentsOnly) {
  const auto through = mount_path(base_ / "link" / "mnt");
  ASSERT_TRUE(through) << through.error().message();
  EXPECT_EQ(*through, base_ / "real" / "mnt");
  const auto itself = mount_path(base_ / "link");
  ASSERT_TRUE(itself);
  EXPECT_EQ(*itself, base_ / "link");
}

TEST_F(MountPathTest, DropsDotsAndTrailingSlashes) {
  const auto path = mount_path((base_ / "real").string() + "/./mnt//");
  ASSERT_TRUE(path);
  EXPECT_EQ(*path, base_ / "real" / "mnt");
}

TEST_F(MountPathTest, RelativePathsBeginAtTheWorkingDirectory) {
  const auto path = mount_path("mnt");
  ASSERT_TRUE(path);
  EXPECT_EQ(*path, std::filesystem::canonical(std::filesystem::current_path()) / "mnt");
}

TEST_F(MountPathTest, RefusesTheRootAndMissingParents) {
  EXPECT_EQ(mount_path("/").error().code(), Errc::kInvalid);
  EXPECT_EQ(mount_path(base_ / "absent" / "mnt").error().code(), Errc::kNotFound);
}

TEST_F(MountPathTest, AFileThatIsNoMountIsLeftAlone) {
  EXPECT_TRUE(detach_dead_mounts(base_ / "real"));
  EXPECT_EQ(detach_mount(base_ / "real", "0:1").error().code(), Errc::kNotFound);
}

}  // namespace
}  // namespace imsy::fuse
