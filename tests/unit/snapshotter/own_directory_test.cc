#include "snapshotter/own_directory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "snapshotter/socket.h"
#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::snapshotter {
namespace {

mode_t mode_of(const std::filesystem::path& path) {
  struct stat st = {};
  EXPECT_EQ(lstat(path.c_str(), &st), 0) << path;
  return st.st_mode & 07777;
}

void expect_refused(const std::filesystem::path& path, const std::string& part) {
  const auto checked = own_directory(path, 0700);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code(), Errc::kFailedPrecondition);
  EXPECT_NE(checked.error().message().find(part), std::string::npos) << checked.error().message();
}

TEST(OwnDirectory, IsMadeWithItsParentsAndExactMode) {
  const test::TemporaryDirectory directory;
  const mode_t before = umask(077);
  const auto made = own_directory(directory / "a/b/", 0711);
  umask(before);
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(*made, std::filesystem::canonical(directory / "a/b"));
  EXPECT_EQ(mode_of(directory / "a/b"), 0711U);
  EXPECT_TRUE(own_directory(directory / "a/b", 0711)) << "once more is fine";
}

TEST(OwnDirectory, RefusesWhatOthersCouldChange) {
  const test::TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "open/inner");
  ASSERT_EQ(chmod((directory / "open").c_str(), 0777), 0);
  expect_refused(directory / "open", "chmod go-w");
  expect_refused(directory / "open/inner", "chmod go-w");
  ASSERT_EQ(chmod((directory / "open").c_str(), 01777), 0);
  EXPECT_TRUE(own_directory(directory / "open/inner", 0700)) << "sticky protects what is ours";
  if (geteuid() == 0) {
    std::filesystem::create_directories(directory / "foreign");
    ASSERT_EQ(chown((directory / "foreign").c_str(), 12345, 0), 0);
    expect_refused(directory / "foreign", "12345");
  }
}

TEST(OwnDirectory, RefusesLinksAndFiles) {
  const test::TemporaryDirectory directory;
  std::filesystem::create_directories(directory / "real");
  std::filesystem::create_directory_symlink(directory / "real", directory / "link");
  expect_refused(directory / "link", "not a directory");
  std::ofstream(directory / "file") << "x";
  expect_refused(directory / "file", "not a directory");
}

TEST(LockDirectory, NamesTheHolderAndEndsWithIt) {
  const test::TemporaryDirectory directory;
  {
    const auto lock = lock_directory(directory.path());
    ASSERT_TRUE(lock) << lock.error().message();
    const auto second = lock_directory(directory.path());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), Errc::kUnavailable);
    EXPECT_NE(second.error().message().find("pid " + std::to_string(getpid())), std::string::npos)
        << second.error().message();
  }
  EXPECT_TRUE(lock_directory(directory.path()));
}

TEST(ListenAt, MakesAPrivateSocket) {
  const test::TemporaryDirectory directory;
  const auto listening = listen_at(directory / "run/s");
  ASSERT_TRUE(listening) << listening.error().message();
  EXPECT_EQ(mode_of(directory / "run"), 0711U);
  EXPECT_EQ(mode_of(directory / "run/s"), 0600U);
}

TEST(ListenAt, ReplacesAStaleSocketOnly) {
  const test::TemporaryDirectory directory;
  {
    const auto first = listen_at(directory / "s");
    ASSERT_TRUE(first);
    const auto second = listen_at(directory / "s");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code(), Errc::kUnavailable);
    EXPECT_NE(second.error().message().find("pid " + std::to_string(getpid())), std::string::npos)
        << second.error().message();
  }
  ASSERT_TRUE(std::filesystem::exists(directory / "s")) << "left behind, as after a crash";
  EXPECT_TRUE(listen_at(directory / "s"));
}

TEST(ListenAt, LeavesOtherFilesAlone) {
  const test::TemporaryDirectory directory;
  std::ofstream(directory / "file") << "precious";
  const auto listening = listen_at(directory / "file");
  ASSERT_FALSE(listening);
  EXPECT_EQ(listening.error().code(), Errc::kFailedPrecondition);
  EXPECT_TRUE(std::filesystem::is_regular_file(directory / "file"));
}

TEST(ListenAt, RefusesPathsThatDoNotFit) {
  const auto listening = listen_at("/" + std::string(200, 'x'));
  ASSERT_FALSE(listening);
  EXPECT_EQ(listening.error().code(), Errc::kInvalid);
}

}  // namespace
}  // namespace imsy::snapshotter
