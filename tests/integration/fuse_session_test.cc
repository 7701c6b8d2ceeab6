// Mounting and unmounting.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "fuse/mount_table.h"
#include "tests/integration/fuse_fixture.h"

namespace imsy::fuse::testing {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<FakeImage> small_image() {
  ImageBuilder builder;
  builder.file(ImageBuilder::kRoot, "file", "content");
  return builder.build();
}

class FuseSessionTest : public FuseTest {
 protected:
  Errc mount_error(const std::filesystem::path& directory) {
    const auto session = Session::mount(fs_, directory);
    return session ? Errc::kInternal : session.error().code();
  }
  std::string type_at_mount() const {
    const auto mounts = mounts_at(mount_);
    return mounts && !mounts->empty() ? mounts->back().type : "nothing";
  }
};

// A mount whose server is gone.
void leave_dead_mount(ImageFs& fs, const std::filesystem::path& directory) {
  Child child([&] {
    const auto session = Session::mount(fs, directory);
    ::_exit(session ? 0 : 1);  // without the destructor
    return 0;
  });
  ASSERT_EQ(child.wait(), 0);
  struct stat st;
  ASSERT_NE(::stat(directory.c_str(), &st), 0);
  ASSERT_EQ(errno, ENOTCONN);
}

TEST_F(FuseSessionTest, MountsReadOnlyForEverybody) {
  start(small_image());
  std::ifstream table("/proc/self/mountinfo");
  std::string line;
  while (std::getline(table, line) && line.find(" " + mount_.string() + " ") == std::string::npos) {
  }
  for (const char* part :
       {" ro,nosuid,nodev,", " - fuse.imsy imsy ", "allow_other", "default_permissions"}) {
    EXPECT_THAT(line, HasSubstr(part));
  }
}

TEST_F(FuseSessionTest, MountsOnlyAtAnEmptyDirectory) {
  std::ofstream(base_ / "file") << "x";
  std::filesystem::create_directory_symlink("mnt", base_ / "link");
  EXPECT_EQ(mount_error(base_), Errc::kFailedPrecondition);
  EXPECT_EQ(mount_error(base_ / "file"), Errc::kFailedPrecondition);
  EXPECT_EQ(mount_error(base_ / "link"), Errc::kFailedPrecondition);
  EXPECT_EQ(mount_error(base_ / "absent"), Errc::kNotFound);
  EXPECT_EQ(type_at_mount(), "nothing");
}

TEST_F(FuseSessionTest, RefusesADirectoryThatALiveSessionServes) {
  start(small_image());
  EXPECT_EQ(mount_error(mount_), Errc::kFailedPrecondition);
  EXPECT_EQ(read_whole(path("file")), "content") << "the first one goes on";
}

TEST_F(FuseSessionTest, LeavesForeignMountsAlone) {
  ASSERT_EQ(::mount("none", mount_.c_str(), "tmpfs", 0, nullptr), 0);
  EXPECT_EQ(mount_error(mount_), Errc::kFailedPrecondition);
  EXPECT_EQ(type_at_mount(), "tmpfs");
  ASSERT_EQ(::umount(mount_.c_str()), 0);
}

TEST_F(FuseSessionTest, DetachesADeadMountFirst) {
  leave_dead_mount(fs_, mount_);
  ASSERT_EQ(type_at_mount(), kMountType);
  start(small_image());
  EXPECT_EQ(read_whole(path("file")), "content");
  EXPECT_EQ(mounts_at(mount_)->size(), 1u);
}

TEST_F(FuseSessionTest, DetachesDeadMountsUnderOneAnother) {
  const auto second = base_ / "second";
  std::filesystem::create_directory(second);
  leave_dead_mount(fs_, mount_);
  leave_dead_mount(fs_, second);
  ASSERT_EQ(::mount(second.c_str(), mount_.c_str(), nullptr, MS_MOVE, nullptr), 0);
  ASSERT_EQ(mounts_at(mount_)->size(), 2u);
  start(small_image());
  EXPECT_EQ(mounts_at(mount_)->size(), 1u);
}

TEST_F(FuseSessionTest, FindsItsDirectoryWhateverItIsCalled) {
  mount_ = base_ / "with blank\tand\nnewline\\and\xff";
  std::filesystem::create_directory(mount_);
  leave_dead_mount(fs_, mount_);
  start(small_image());
  EXPECT_EQ(read_whole(path("file")), "content");
}

TEST_F(FuseSessionTest, ARelativeDirectoryStaysTheSameOne) {
  ASSERT_EQ(::chdir(base_.c_str()), 0);
  auto session = Session::mount(fs_, "mnt/");
  ASSERT_EQ(::chdir("/"), 0);
  ASSERT_TRUE(session);
  EXPECT_EQ(type_at_mount(), kMountType);
}

TEST_F(FuseSessionTest, SurvivesThatSomebodyUnmounts) {
  start(small_image());
  ASSERT_EQ(::umount2(mount_.c_str(), MNT_DETACH), 0);
  session_->forget_slot(kSlot);
  stop();
  start();
  EXPECT_EQ(read_whole(path("file")), "content");
}

TEST_F(FuseSessionTest, SurvivesThatSomebodyAborts) {
  start(small_image());
  ::umount2(mount_.c_str(), MNT_FORCE);
  session_->forget_slot(kSlot);
  stop();
  EXPECT_EQ(type_at_mount(), "nothing");
}

TEST_F(FuseSessionTest, DoesNotUnmountWhatLiesOverIt) {
  start(small_image());
  ASSERT_EQ(::mount("none", mount_.c_str(), "tmpfs", 0, nullptr), 0);
  stop();
  EXPECT_EQ(type_at_mount(), "tmpfs");
  ASSERT_EQ(::umount(mount_.c_str()), 0);
  EXPECT_TRUE(detach_dead_mounts(mount_));
}

TEST_F(FuseSessionTest, ForgettingWhatTheKernelNeverKnewIsNoError) {
  start(small_image());
  session_->forget_slot(kSlot);
  session_->forget_slot(12345);
  EXPECT_EQ(read_whole(path("file")), "content");
}

std::set<int> open_descriptors() {
  std::set<int> list;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    list.insert(std::stoi(entry.path().filename()));
  }
  // Without the one that listed them.
  std::erase_if(list, [](int fd) { return ::fcntl(fd, F_GETFD) < 0; });
  return list;
}

std::multiset<std::string> thread_names() {
  std::multiset<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(entry.path() / "comm");
    std::string name;
    std::getline(file, name);
    names.insert(name);
  }
  return names;
}

TEST_F(FuseSessionTest, NoDescriptorOutlivesExec) {
  const auto before = open_descriptors();
  start(small_image());
  int devices = 0;
  for (const int fd : open_descriptors()) {
    if (before.contains(fd)) continue;
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0) << fd;
    std::error_code error;
    const auto target = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), error);
    if (target == "/dev/fuse") ++devices;
  }
  EXPECT_EQ(devices, 1) << "one queue";
}

TEST_F(FuseSessionTest, ThreadsAreNamedAndEnd) {
  start(small_image());
  // A thread names itself when it first runs.
  while (thread_names().count("fuse-0") + thread_names().count("fuse-1") < 2) {
    std::this_thread::yield();
  }
  stop();
  EXPECT_EQ(thread_names().count("fuse-0") + thread_names().count("fuse-1"), 0u);
}

TEST_F(FuseSessionTest, ManySessionsLeaveNothingBehind) {
  ASSERT_TRUE(fs_.add(kSlot, small_image()));
  start();
  stop();
  const auto descriptors = open_descriptors().size();
  const auto threads = thread_names().size();
  for (int i = 0; i < 30; ++i) {
    start();
    EXPECT_EQ(read_whole(path("file")), "content");
    stop();
  }
  EXPECT_EQ(open_descriptors().size(), descriptors);
  // A thread that has been joined stays in /proc for a moment.
  while (thread_names().size() > threads) std::this_thread::yield();
}

TEST_F(FuseSessionTest, ServesWithOneThreadAndWithMany) {
  ASSERT_TRUE(fs_.add(kSlot, small_image()));
  for (const unsigned threads : {0u, 1u, 16u}) {
    auto session = Session::mount(fs_, mount_, {.threads = threads});
    ASSERT_TRUE(session) << session.error().message();
    std::vector<std::thread> readers;
    for (int i = 0; i < 8; ++i) {
      readers.emplace_back([&] { EXPECT_EQ(read_whole(path("file")), "content"); });
    }
    for (auto& reader : readers) reader.join();
    EXPECT_GE((*session)->stats().reads, 1u);
  }
}

}  // namespace
}  // namespace imsy::fuse::testing
