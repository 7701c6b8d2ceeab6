#include "snapshotter/tree_walk.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "common/io.h"
#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::snapshotter {
namespace {

const auto kNoDeadline = std::chrono::steady_clock::time_point::max();

// A chain of directories, deeper than any path name and than any limit of open files.
void make_deep(const std::filesystem::path& top, int depth) {
  UniqueFd fd(open(top.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int i = 0; i < depth; ++i) {
    ASSERT_EQ(mkdirat(fd.get(), "a-rather-long-name", 0700), 0);
    fd = UniqueFd(openat(fd.get(), "a-rather-long-name", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(fd);
  }
}

TEST(DiskUsage, CountsInodesOnceAndAllocatedBytes) {
  const test::TemporaryDirectory directory;
  const auto top = directory / "fs";
  std::filesystem::create_directories(top / "sub");
  std::ofstream(top / "sub/file") << std::string(10'000, 'x');
  ASSERT_EQ(link((top / "sub/file").c_str(), (top / "link").c_str()), 0);
  ASSERT_EQ(symlink("/", (top / "root").c_str()), 0);
  ASSERT_EQ(mkfifo((top / "fifo").c_str(), 0600), 0);
  const auto measured = disk_usage(top, kNoDeadline);
  ASSERT_TRUE(measured);
  EXPECT_TRUE(measured->complete);
  EXPECT_EQ(measured->usage.inodes, 5);  // fs, sub, file, root, fifo
  std::int64_t expected = 0;
  for (const auto& path : {top, top / "sub", top / "sub/file", top / "root", top / "fifo"}) {
    struct stat st = {};
    ASSERT_EQ(lstat(path.c_str(), &st), 0);
    expected += st.st_blocks * 512;
  }
  EXPECT_EQ(measured->usage.size, expected);
}

TEST(DiskUsage, SparseFilesCountWhatTheyHold) {
  const test::TemporaryDirectory directory;
  std::ofstream(directory / "sparse") << "x";
  std::filesystem::resize_file(directory / "sparse", 1ULL << 40);
  EXPECT_LT(disk_usage(directory.path(), kNoDeadline)->usage.size, 1 << 20);
}

TEST(DiskUsage, StopsAtItsDeadlineWithWhatItHas) {
  const test::TemporaryDirectory directory;
  for (int i = 0; i < 3000; ++i) {
    UniqueFd(creat((directory / std::to_string(i)).c_str(), 0600));
  }
  const auto measured = disk_usage(directory.path(), std::chrono::steady_clock::time_point::min());
  ASSERT_TRUE(measured);
  EXPECT_FALSE(measured->complete);
  EXPECT_GT(measured->usage.inodes, 0);
  EXPECT_LT(measured->usage.inodes, 3000);
}

TEST(DiskUsage, MissingDirectoryIsAnError) {
  const test::TemporaryDirectory directory;
  const auto measured = disk_usage(directory / "gone", kNoDeadline);
  ASSERT_FALSE(measured);
  EXPECT_EQ(measured.error().code(), Errc::kNotFound);
}

TEST(RemoveTree, RemovesAllKindsOfFilesAndFollowsNoLink) {
  const test::TemporaryDirectory directory;
  const auto kept = directory / "kept";
  std::filesystem::create_directories(kept);
  std::ofstream(kept / "file") << "x";
  const auto top = directory / "tree";
  std::filesystem::create_directories(top / "a/b/c");
  std::filesystem::create_directories(top / "a/d");
  std::ofstream(top / "a/b/file") << "x";
  ASSERT_EQ(mkfifo((top / "fifo").c_str(), 0600), 0);
  ASSERT_EQ(symlink(kept.c_str(), (top / "a/link").c_str()), 0);
  ASSERT_EQ(chmod((top / "a/d").c_str(), 0), 0);
  ASSERT_TRUE(remove_tree(top));
  EXPECT_FALSE(std::filesystem::exists(top));
  EXPECT_TRUE(std::filesystem::exists(kept / "file"));
  EXPECT_TRUE(remove_tree(top)) << "removing what is gone is no error";
}

TEST(RemoveTree, RefusesALinkInPlaceOfTheTree) {
  const test::TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "kept");
  ASSERT_EQ(symlink((directory / "kept").c_str(), (directory / "link").c_str()), 0);
  EXPECT_FALSE(remove_tree(directory / "link") && !std::filesystem::exists(directory / "kept"));
  EXPECT_TRUE(std::filesystem::exists(directory / "kept"));
}

TEST(RemoveTree, AnyDepthIsWalked) {
  const test::TemporaryDirectory directory;
  const auto top = directory / "deep";
  std::filesystem::create_directories(top);
  make_deep(top, 3000);
  EXPECT_EQ(disk_usage(top, kNoDeadline)->usage.inodes, 3001);
  ASSERT_TRUE(remove_tree(top));
  EXPECT_FALSE(std::filesystem::exists(top));
}

TEST(RemoveTree, CanBeInterruptedAndGoneOnWith) {
  const test::TemporaryDirectory directory;
  const auto top = directory / "tree";
  std::filesystem::create_directories(top);
  std::ofstream(top / "file") << "x";
  std::stop_source stop;
  stop.request_stop();
  const Status removed = remove_tree(top, stop.get_token());
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code(), Errc::kCancelled);
  EXPECT_TRUE(std::filesystem::exists(top / "file"));
  EXPECT_TRUE(remove_tree(top));
}

}  // namespace
}  // namespace imsy::snapshotter
