// What programs see of a mounted tree.

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <random>
#include <set>

#include "common/bytes.h"
#include "tests/integration/fuse_fixture.h"
#include "tests/integration/fuse_tree_model.h"

namespace imsy::fuse::testing {
namespace {

using FuseTreeTest = FuseTest;

std::uint64_t seed() {
  const char* given = std::getenv("IMSY_SEED");
  const std::uint64_t seed =
      given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device()();
  std::cout << "IMSY_SEED=" << seed << "\n";
  return seed;
}

int errno_of(int result) {
  return result == 0 ? 0 : errno;
}

TEST_F(FuseTreeTest, ARandomTreeLooksAsItShould) {
  const std::uint64_t first = seed();
  for (std::uint64_t round = 0; round < 3; ++round) {
    const RandomTree tree = random_tree(first + round, 400);
    ASSERT_TRUE(fs_.add(static_cast<Slot>(round + 1), tree.image));
    if (session_ == nullptr) start();
    const std::string directory = path("", static_cast<Slot>(round + 1));
    EXPECT_EQ(compare(directory, tree, false), "") << "seed " << first + round;
    EXPECT_EQ(compare(directory, tree, false), "") << "from the kernel's cache";
  }
}

// Reads with getdents64 through a buffer of `size` bytes.
std::vector<std::string> list_through(int fd, std::size_t size) {
  std::vector<std::string> names;
  std::vector<std::byte> buffer(size);
  for (;;) {
    const long got = ::syscall(SYS_getdents64, fd, buffer.data(), buffer.size());
    if (got < 0) ADD_FAILURE() << std::strerror(errno);
    if (got <= 0) return names;
    for (long at = 0; at < got;) {
      names.emplace_back(reinterpret_cast<const char*>(&buffer[at + 19]));
      at += load_le<std::uint16_t>(&buffer[at + 16]);
    }
  }
}

TEST_F(FuseTreeTest, ALargeDirectoryIsListedWholeThroughAnyBuffer) {
  ImageBuilder builder;
  std::set<std::string> expected = {".", ".."};
  for (int i = 0; i < 10'000; ++i) {
    const std::string name = std::to_string(i) + std::string(i % 120, 'n');
    expected.insert(name);
    builder.fifo(ImageBuilder::kRoot, name);
  }
  start(builder.build());
  for (const std::size_t size : {200u, 4096u, 1u << 20}) {
    // A directory opened anew is read from the server, then from the cache.
    for (int pass = 0; pass < 2; ++pass) {
      const UniqueFd fd = open_for_reading(path(""), O_DIRECTORY);
      const auto names = list_through(fd.get(), size);
      EXPECT_EQ(names.size(), expected.size()) << size;
      EXPECT_EQ(std::set<std::string>(names.begin(), names.end()), expected) << size;
    }
  }
}

TEST_F(FuseTreeTest, SeekdirGoesBackToAnyEntry) {
  ImageBuilder builder;
  for (int i = 0; i < 500; ++i) builder.fifo(ImageBuilder::kRoot, "entry" + std::to_string(i));
  start(builder.build());
  DIR* directory = ::opendir(path("").c_str());
  ASSERT_NE(directory, nullptr);
  std::vector<std::pair<long, std::string>> places;
  for (;;) {
    const long place = ::telldir(directory);
    const dirent* entry = ::readdir(directory);
    if (entry == nullptr) break;
    places.emplace_back(place, entry->d_name);
  }
  EXPECT_EQ(places.size(), 502u);
  std::shuffle(places.begin(), places.end(), std::mt19937_64(1));
  for (const auto& [place, name] : places) {
    ::seekdir(directory, place);
    const dirent* entry = ::readdir(directory);
    ASSERT_NE(entry, nullptr) << name;
    EXPECT_EQ(entry->d_name, name);
  }
  ::closedir(directory);
}

TEST_F(FuseTreeTest, NamesHaveAtMost255Bytes) {
  ImageBuilder builder;
  const std::string longest(255, '\xff');
  builder.file(ImageBuilder::kRoot, longest, "content");
  start(builder.build());
  EXPECT_EQ(read_whole(path(longest)), "content");
  EXPECT_EQ(read_whole(path(longest + "x")), error_text(ENAMETOOLONG));
}

TEST_F(FuseTreeTest, DotDotLeadsUpToTheRoot) {
  ImageBuilder builder;
  const auto upper = builder.directory(ImageBuilder::kRoot, "a");
  builder.directory(upper, "b");
  start(builder.build());
  const auto inode = [](const std::string& file) {
    struct stat st {};
    EXPECT_EQ(::stat(file.c_str(), &st), 0) << file;
    return st.st_ino;
  };
  const auto listed = [](const std::string& directory) {
    DIR* list = ::opendir(directory.c_str());
    EXPECT_NE(list, nullptr);
    ino_t found = 0;
    while (const dirent* entry = ::readdir(list)) {
      if (std::string_view(entry->d_name) == "..") found = entry->d_ino;
    }
    ::closedir(list);
    return found;
  };
  EXPECT_EQ(inode(path("a/b/..")), inode(path("a")));
  EXPECT_EQ(inode(path("a/..")), inode(path("")));
  EXPECT_EQ(inode(path("..")), kRootId);
  EXPECT_EQ(listed(path("a/b")), inode(path("a")));
  EXPECT_EQ(listed(path("a")), inode(path("")));
  EXPECT_EQ(listed(path("")), kRootId);
}

TEST_F(FuseTreeTest, TheKernelAsksOnce) {
  ImageBuilder builder;
  builder.file(ImageBuilder::kRoot, "file", "content", {.xattrs = {{"user.a", "b"}}});
  builder.symlink(ImageBuilder::kRoot, "link", "file");
  start(builder.build());
  const auto look = [&] {
    struct stat st;
    EXPECT_EQ(::lstat(path("link").c_str(), &st), 0);
    EXPECT_EQ(errno_of(::lstat(path("absent").c_str(), &st)), ENOENT);
    EXPECT_EQ(read_whole(path("link")), "content");
  };
  // Paths from the root of the mount ask for the slot each time: nothing there is remembered.
  ASSERT_EQ(::chdir(path("").c_str()), 0);
  const auto in_image = [&] {
    struct stat st;
    EXPECT_EQ(::lstat("file", &st), 0);
    EXPECT_EQ(errno_of(::lstat("absent", &st)), ENOENT);
    EXPECT_EQ(read_whole("link"), "content");
  };
  look();
  in_image();
  const auto before = session_->stats().requests;
  in_image();
  EXPECT_EQ(session_->stats().requests, before);
  ASSERT_EQ(::chdir("/"), 0);
}

TEST_F(FuseTreeTest, ImagesAppearAndDisappearAtOnce) {
  ImageBuilder builder;
  builder.file(ImageBuilder::kRoot, "file", "content");
  const auto image = builder.build();
  start(image, 1);
  EXPECT_EQ(read_whole(path("file", 2)), error_text(ENOENT));
  ASSERT_TRUE(fs_.add(2, image));
  EXPECT_EQ(read_whole(path("file", 2)), "content");
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(mount_)) {
    names.insert(entry.path().filename());
  }
  EXPECT_THAT(names, ::testing::ElementsAre("1", "2"));
  fs_.remove(2);
  session_->forget_slot(2);
  EXPECT_EQ(read_whole(path("file", 2)), error_text(ENOENT));
  EXPECT_EQ(read_whole(path("file", 1)), "content");
}

TEST_F(FuseTreeTest, NothingCanBeChanged) {
  ImageBuilder builder;
  builder.file(ImageBuilder::kRoot, "file", "content", {.mode = 0777});
  builder.directory(ImageBuilder::kRoot, "directory", {.mode = 0777});
  start(builder.build());
  const std::string file = path("file");
  const std::string fresh = path("fresh");
  const auto open_errno = [](const std::string& name, int flags) {
    const UniqueFd fd(::open(name.c_str(), flags | O_CLOEXEC, 0600));
    return fd ? 0 : errno;
  };
  EXPECT_EQ(open_errno(file, O_WRONLY), EROFS);
  EXPECT_EQ(open_errno(file, O_RDWR), EROFS);
  EXPECT_EQ(open_errno(file, O_RDONLY | O_TRUNC), EROFS);
  EXPECT_EQ(open_errno(fresh, O_WRONLY | O_CREAT), EROFS);
  EXPECT_EQ(errno_of(::mkdir(fresh.c_str(), 0700)), EROFS);
  EXPECT_EQ(errno_of(::unlink(file.c_str())), EROFS);
  EXPECT_EQ(errno_of(::rmdir(path("directory").c_str())), EROFS);
  EXPECT_EQ(errno_of(::rename(file.c_str(), fresh.c_str())), EROFS);
  EXPECT_EQ(errno_of(::link(file.c_str(), fresh.c_str())), EROFS);
  EXPECT_EQ(errno_of(::symlink("x", fresh.c_str())), EROFS);
  EXPECT_EQ(errno_of(::mknod(fresh.c_str(), S_IFIFO | 0600, 0)), EROFS);
  EXPECT_EQ(errno_of(::chmod(file.c_str(), 0)), EROFS);
  EXPECT_EQ(errno_of(::chown(file.c_str(), 1, 1)), EROFS);
  EXPECT_EQ(errno_of(::truncate(file.c_str(), 0)), EROFS);
  EXPECT_EQ(errno_of(::utimensat(AT_FDCWD, file.c_str(), nullptr, 0)), EROFS);
  EXPECT_EQ(errno_of(::setxattr(file.c_str(), "user.a", "b", 1, 0)), EROFS);
  EXPECT_EQ(errno_of(::removexattr(file.c_str(), "user.a")), EROFS);
  EXPECT_EQ(read_whole(file), "content");
}

TEST_F(FuseTreeTest, ReportsTheSizeOfWhatIsMounted) {
  ImageBuilder builder;
  builder.file(ImageBuilder::kRoot, "file", std::string(10'000, 'x'));
  start(builder.build());
  struct statvfs numbers {};
  ASSERT_EQ(::statvfs(path("file").c_str(), &numbers), 0);
  EXPECT_EQ(numbers.f_bsize, 4096u);
  EXPECT_EQ(numbers.f_blocks, 3u);
  EXPECT_EQ(numbers.f_bfree, 0u);
  EXPECT_EQ(numbers.f_bavail, 0u);
  EXPECT_EQ(numbers.f_namemax, 255u);
  const unsigned long flags = ST_RDONLY | ST_NOSUID | ST_NODEV;
  EXPECT_EQ(numbers.f_flag & flags, flags);
}

// An access control list as the kernel keeps it: version 2, then tag, permissions and id of each.
std::string access_list(std::uint32_t reader) {
  constexpr std::uint32_t kNoId = 0xffffffff;
  Bytes raw;
  append_le<std::uint32_t>(raw, 2);
  const auto entry = [&raw](std::uint16_t tag, std::uint16_t permissions, std::uint32_t id) {
    append_le(raw, tag);
    append_le(raw, permissions);
    append_le(raw, id);
  };
  entry(0x01, 6, kNoId);   // the owner
  entry(0x02, 4, reader);  // a user
  entry(0x04, 0, kNoId);   // the group
  entry(0x10, 4, kNoId);   // the mask
  entry(0x20, 0, kNoId);   // the others
  return std::string(as_text(raw));
}

// The exit code of a child that opens `file` as a user: 0, or the errno.
int open_as(std::uint32_t user, const std::string& file) {
  Child child([&] {
    if (::syscall(SYS_setgroups, 0, nullptr) != 0 || ::syscall(SYS_setgid, user) != 0 ||
        ::syscall(SYS_setuid, user) != 0) {
      return 250;
    }
    return ::open(file.c_str(), O_RDONLY) >= 0 ? 0 : errno;
  });
  const int status = child.wait();
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(FuseTreeTest, PermissionsAndAccessListsHold) {
  ImageBuilder builder;
  builder.file(ImageBuilder::kRoot, "open", "o", {.mode = 0644});
  builder.file(ImageBuilder::kRoot, "closed", "c", {.mode = 0600});
  builder.file(ImageBuilder::kRoot, "owned", "w", {.mode = 0400, .uid = 1001});
  // Without the list, the mode would let the group read.
  builder.file(
      ImageBuilder::kRoot, "listed", "l",
      {.mode = 0640, .gid = 1002, .xattrs = {{"system.posix_acl_access", access_list(1001)}}});
  start(builder.build());
  EXPECT_EQ(open_as(1001, path("open")), 0);
  EXPECT_EQ(open_as(1001, path("closed")), EACCES);
  EXPECT_EQ(open_as(1001, path("owned")), 0);
  EXPECT_EQ(open_as(1002, path("owned")), EACCES);
  EXPECT_EQ(open_as(1001, path("listed")), 0);
  EXPECT_EQ(open_as(1002, path("listed")), EACCES);
  EXPECT_EQ(open_as(1003, path("listed")), EACCES);
  std::string value(100, '\0');
  const ssize_t size =
      ::getxattr(path("listed").c_str(), "system.posix_acl_access", value.data(), value.size());
  ASSERT_GT(size, 0);
  value.resize(static_cast<std::size_t>(size));
  EXPECT_EQ(value, access_list(1001));
}

TEST_F(FuseTreeTest, DevicesCannotBeOpenedAndSetuidDoesNothing) {
  ImageBuilder builder;
  builder.device(ImageBuilder::kRoot, "null", cdc::NodeType::kCharDevice, 1, 3, {.mode = 0666});
  builder.file(ImageBuilder::kRoot, "id", read_whole("/usr/bin/id"), {.mode = 04755, .uid = 1001});
  start(builder.build());
  EXPECT_EQ(read_whole(path("null")), error_text(EACCES));
  Child child([file = path("id")] {
    const int out = ::open("/dev/null", O_WRONLY);
    ::dup2(out, 1);
    ::execl(file.c_str(), "id", "-u", nullptr);
    return 250;
  });
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace imsy::fuse::testing
