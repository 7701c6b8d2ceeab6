// Images below overlayfs, as containers use them.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "tests/integration/fuse_fixture.h"
#include "tests/integration/fuse_tree_model.h"

namespace imsy::fuse::testing {
namespace {

class FuseOverlayTest : public FuseTest {
 protected:
  void SetUp() override {
    FuseTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    // The upper directory needs a filesystem of its own: overlayfs does not stack on itself.
    upper_ = base_ / "tmpfs";
    merged_ = base_ / "merged";
    std::filesystem::create_directory(upper_);
    std::filesystem::create_directory(merged_);
    ASSERT_EQ(::mount("none", upper_.c_str(), "tmpfs", 0, nullptr), 0);
    std::filesystem::create_directory(upper_ / "upper");
    std::filesystem::create_directory(upper_ / "work");
  }
  void TearDown() override {
    if (!merged_.empty()) {
      ::umount2(merged_.c_str(), MNT_DETACH);
      ::umount2(upper_.c_str(), MNT_DETACH);
    }
    FuseTest::TearDown();
  }

  void overlay() {
    const std::string options = "lowerdir=" + path("") +
                                ",upperdir=" + (upper_ / "upper").string() +
                                ",workdir=" + (upper_ / "work").string();
    ASSERT_EQ(::mount("overlay", merged_.c_str(), "overlay", 0, options.c_str()), 0)
        << std::strerror(errno);
  }
  std::string in(const std::string& name) const { return (merged_ / name).string(); }
  struct stat stat_of(const std::string& name) const {
    struct stat st {};
    EXPECT_EQ(::lstat(in(name).c_str(), &st), 0) << name;
    return st;
  }

  std::filesystem::path upper_;
  std::filesystem::path merged_;
};

TEST_F(FuseOverlayTest, ARandomTreeLooksAsItShould) {
  for (const std::uint64_t seed : {11u, 12u}) {
    const RandomTree tree = random_tree(seed, 300);
    fs_.remove(kSlot);
    ASSERT_TRUE(fs_.add(kSlot, tree.image));
    if (session_ == nullptr) start();
    overlay();
    EXPECT_EQ(compare(merged_.string(), tree, true), "") << "seed " << seed;
    ASSERT_EQ(::umount(merged_.c_str()), 0);
    session_->forget_slot(kSlot);
    stop();
  }
}

TEST_F(FuseOverlayTest, WritingCopiesUp) {
  ImageBuilder builder;
  const std::string content(500'000, 'c');
  builder.file(ImageBuilder::kRoot, "file", content,
               {.mode = 04751,
                .uid = 1001,
                .gid = 1002,
                .mtime_s = 1234,
                .mtime_ns = 5678,
                .xattrs = {{"security.imsy", "b"}}});
  start(builder.build());
  overlay();
  // A change of the attributes alone keeps all else, the setuid bit too.
  const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 2}, {.tv_sec = 3, .tv_nsec = 4}};
  ASSERT_EQ(::utimensat(AT_FDCWD, in("file").c_str(), times, 0), 0);
  const struct stat copied = stat_of("file");
  EXPECT_EQ(copied.st_mode, S_IFREG | 04751u);
  EXPECT_EQ(copied.st_uid, 1001u);
  EXPECT_EQ(copied.st_gid, 1002u);
  EXPECT_EQ(copied.st_mtim.tv_sec, 3);
  char value[8];
  EXPECT_EQ(::getxattr(in("file").c_str(), "security.imsy", value, sizeof value), 1);
  const UniqueFd fd(::open(in("file").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  ASSERT_TRUE(fd);
  ASSERT_EQ(::write(fd.get(), "more", 4), 4);
  EXPECT_EQ(read_whole(in("file")), content + "more");
  EXPECT_EQ(read_whole(path("file")), content) << "the image is as it was";
}

TEST_F(FuseOverlayTest, NamesCanBeRemovedMadeAndMoved) {
  ImageBuilder builder;
  const auto directory = builder.directory(ImageBuilder::kRoot, "directory");
  builder.file(directory, "inner", "inner content");
  builder.file(ImageBuilder::kRoot, "gone", "gone content");
  builder.file(ImageBuilder::kRoot, "moved", "moved content");
  start(builder.build());
  overlay();
  ASSERT_EQ(::unlink(in("gone").c_str()), 0);
  EXPECT_EQ(read_whole(in("gone")), error_text(ENOENT));
  ASSERT_EQ(::rename(in("moved").c_str(), in("directory/here").c_str()), 0);
  EXPECT_EQ(read_whole(in("directory/here")), "moved content");
  EXPECT_EQ(read_whole(in("moved")), error_text(ENOENT));
  ASSERT_EQ(::mkdir(in("gone").c_str(), 0700), 0);
  EXPECT_TRUE(std::filesystem::is_empty(in("gone")));
  std::filesystem::remove_all(in("directory"));
  ASSERT_EQ(::mkdir(in("directory").c_str(), 0700), 0);
  EXPECT_TRUE(std::filesystem::is_empty(in("directory"))) << "opaque: the lower one is hidden";
}

TEST_F(FuseOverlayTest, SetuidProgramsAndDevicesWork) {
  ImageBuilder builder;
  builder.file(ImageBuilder::kRoot, "test", read_whole("/usr/bin/test"),
               {.mode = 06755, .uid = 1001, .gid = 1002});
  builder.device(ImageBuilder::kRoot, "null", cdc::NodeType::kCharDevice, 1, 3, {.mode = 0666});
  builder.file(ImageBuilder::kRoot, "mine", "m", {.uid = 1001});
  builder.file(ImageBuilder::kRoot, "other", "o", {.uid = 1003});
  start(builder.build());
  overlay();
  EXPECT_EQ(read_whole(in("null")), "");
  // test -O FILE: whether the effective user owns the file.
  const auto owns = [&](const std::string& file) {
    Child child([program = in("test"), file] {
      ::execl(program.c_str(), "test", "-O", file.c_str(), nullptr);
      return 250;
    });
    const int status = child.wait();
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  EXPECT_EQ(owns(in("mine")), 0) << "the program runs as the user that owns it";
  EXPECT_EQ(owns(in("other")), 1);
}

TEST_F(FuseOverlayTest, CapabilitiesAreCopiedUp) {
  // cap_net_raw, permitted and effective, in version 2 of the format.
  const std::string capability(
      "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
      "\x00\x00\x00\x00",
      20);
  ImageBuilder builder;
  builder.file(ImageBuilder::kRoot, "ping", "program",
               {.xattrs = {{"security.capability", capability}}});
  start(builder.build());
  overlay();
  const auto get = [&] {
    std::string value(100, '\0');
    const ssize_t size =
        ::getxattr(in("ping").c_str(), "security.capability", value.data(), value.size());
    value.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return value;
  };
  EXPECT_EQ(get(), capability);
  const timespec times[2] = {{.tv_sec = 1, .tv_nsec = 2}, {.tv_sec = 3, .tv_nsec = 4}};
  ASSERT_EQ(::utimensat(AT_FDCWD, in("ping").c_str(), times, 0), 0);
  EXPECT_EQ(get(), capability);
}

TEST_F(FuseOverlayTest, AFailedReadIsSeenThroughIt) {
  ImageBuilder builder;
  builder.file(ImageBuilder::kRoot, "file", "content");
  const auto image = builder.build();
  image->fail(object_at(*image, "file"), Error(Errc::kUnavailable, "registry"));
  start(image);
  overlay();
  EXPECT_EQ(read_whole(in("file")), error_text(EIO));
  image->fail(object_at(*image, "file"), std::nullopt);
  EXPECT_EQ(read_whole(in("file")), "content");
}

TEST_F(FuseOverlayTest, TwoImagesAreTwoLayers) {
  ImageBuilder lower;
  lower.file(ImageBuilder::kRoot, "a", "lower a");
  lower.file(ImageBuilder::kRoot, "b", "lower b");
  ImageBuilder upper;
  upper.file(ImageBuilder::kRoot, "b", "upper b");
  start(lower.build(), 1);
  ASSERT_TRUE(fs_.add(2, upper.build()));
  const std::string options = "lowerdir=" + path("", 2) + ":" + path("", 1);
  ASSERT_EQ(::mount("overlay", merged_.c_str(), "overlay", MS_RDONLY, options.c_str()), 0);
  EXPECT_EQ(read_whole(in("a")), "lower a");
  EXPECT_EQ(read_whole(in("b")), "upper b");
}

}  // namespace
}  // namespace imsy::fuse::testing
