#include "common/io.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

namespace imsy {
namespace {

class IoTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "imsy-io-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::size_t files_in_dir() const {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir_)) ++count;
    return count;
  }
  static std::string text_of(const std::filesystem::path& path) {
    const auto data = read_file(path, 1 << 20);
    return data ? std::string(as_text(*data)) : data.error().message();
  }
  static mode_t mode_of(const std::filesystem::path& path) {
    struct stat st {};
    EXPECT_EQ(::stat(path.c_str(), &st), 0);
    return st.st_mode & 07777;
  }

  std::filesystem::path dir_;
};

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

TEST_F(IoTest, UniqueFdClosesWhatItOwns) {
  int number = -1;
  {
    const auto fd = open_file(dir_, O_RDONLY | O_DIRECTORY);
    ASSERT_TRUE(fd);
    number = fd->get();
    EXPECT_TRUE(is_open(number));
    EXPECT_NE(::fcntl(number, F_GETFD) & FD_CLOEXEC, 0);
  }
  EXPECT_FALSE(is_open(number));
}

TEST_F(IoTest, UniqueFdMovesAndReleases) {
  auto opened = open_file(dir_, O_RDONLY);
  ASSERT_TRUE(opened);
  UniqueFd first = std::move(*opened);
  const int number = first.get();
  UniqueFd second = std::move(first);
  EXPECT_EQ(second.get(), number);
  UniqueFd third;
  EXPECT_FALSE(third);
  third = std::move(second);
  EXPECT_TRUE(third);
  EXPECT_EQ(third.release(), number);
  EXPECT_FALSE(third);
  EXPECT_TRUE(is_open(number));
  ::close(number);
}

TEST_F(IoTest, OpenSaysWhatIsMissing) {
  const auto fd = open_file(dir_ / "absent", O_RDONLY);
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code(), Errc::kNotFound);
  EXPECT_NE(fd.error().message().find("absent"), std::string::npos);
  const auto dir = open_file(dir_, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(dir);
  EXPECT_FALSE(open_file_at(dir->get(), "absent", O_RDONLY));
  EXPECT_TRUE(open_file_at(dir->get(), "new", O_WRONLY | O_CREAT, 0600));
}

TEST_F(IoTest, ReadsAndWritesAtOffsets) {
  auto fd = open_file(dir_ / "file", O_RDWR | O_CREAT, 0600);
  ASSERT_TRUE(fd);
  EXPECT_TRUE(pwrite_all(fd->get(), as_bytes("world"), 6));
  EXPECT_TRUE(pwrite_all(fd->get(), as_bytes("hello "), 0));
  EXPECT_EQ(file_size(fd->get()).value(), 11u);
  Bytes buffer(5);
  EXPECT_TRUE(pread_all(fd->get(), buffer, 6));
  EXPECT_EQ(as_text(buffer), "world");
  const auto short_read = pread_all(fd->get(), buffer, 7);
  ASSERT_FALSE(short_read);
  EXPECT_EQ(short_read.error().code(), Errc::kCorrupt);
  EXPECT_TRUE(pread_all(fd->get(), {}, 100));
}

TEST_F(IoTest, WriteAllCopesWithSmallPipes) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const std::string data(1 << 20, 'x');  // more than a pipe holds
  std::jthread thread([&] {
    EXPECT_TRUE(write_all(writer.get(), as_bytes(data)));
    writer.reset();
  });
  std::size_t total = 0;
  std::byte buffer[4096];
  for (;;) {
    const auto got = read_some(reader.get(), buffer);
    ASSERT_TRUE(got);
    if (*got == 0) break;
    total += *got;
  }
  EXPECT_EQ(total, data.size());
}

TEST_F(IoTest, ReadFileKeepsItsLimit) {
  ASSERT_TRUE(replace_file(dir_ / "file", as_bytes(std::string(100'000, 'x'))));
  EXPECT_EQ(read_file(dir_ / "file", 100'000)->size(), 100'000u);
  const auto too_large = read_file(dir_ / "file", 99'999);
  ASSERT_FALSE(too_large);
  EXPECT_EQ(too_large.error().code(), Errc::kInvalid);
  EXPECT_EQ(read_file(dir_ / "absent", 1).error().code(), Errc::kNotFound);
  EXPECT_FALSE(read_file(dir_, 1));
  // An endless file ends at the limit as well.
  EXPECT_FALSE(read_file("/dev/zero", 1 << 20));
}

TEST_F(IoTest, ReplaceFileMakesAndReplaces) {
  const auto path = dir_ / "file";
  ASSERT_TRUE(replace_file(path, as_bytes("one")));
  EXPECT_EQ(text_of(path), "one");
  EXPECT_EQ(mode_of(path), 0600u);
  ASSERT_TRUE(replace_file(path, as_bytes("two"), 0640));
  EXPECT_EQ(text_of(path), "two");
  EXPECT_EQ(mode_of(path), 0640u);
  EXPECT_EQ(files_in_dir(), 1u);
  EXPECT_EQ(replace_file(dir_ / "absent" / "file", {}).error().code(), Errc::kNotFound);
}

TEST_F(IoTest, ReplaceFileLeavesTheOldOneWhenItFails) {
  const auto path = dir_ / "file";
  ASSERT_TRUE(replace_file(path, as_bytes("old")));
  // A file size limit stands for a full disk.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{10, before.rlim_max};
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto replaced = replace_file(path, as_bytes(std::string(1000, 'n')));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, old_handler);
  ASSERT_FALSE(replaced);
  EXPECT_EQ(replaced.error().sys_errno(), EFBIG);
  EXPECT_EQ(text_of(path), "old");
  EXPECT_EQ(files_in_dir(), 1u);
}

TEST_F(IoTest, AtomicFileIsThereOnlyAfterCommit) {
  const auto path = dir_ / "file";
  {
    auto file = AtomicFile::create(path);
    ASSERT_TRUE(file);
    ASSERT_TRUE(write_all(file->fd(), as_bytes("lost")));
    EXPECT_FALSE(std::filesystem::exists(path));
  }
  EXPECT_EQ(files_in_dir(), 0u);
  for (const bool durable : {false, true}) {
    auto file = AtomicFile::create(path);
    ASSERT_TRUE(file);
    ASSERT_TRUE(write_all(file->fd(), as_bytes(durable ? "second" : "first")));
    AtomicFile moved = std::move(*file);
    auto abandoned = AtomicFile::create(path);  // another writer of the same file
    ASSERT_TRUE(abandoned);
    ASSERT_TRUE(write_all(abandoned->fd(), as_bytes("other")));
    ASSERT_TRUE(moved.commit(durable));
    EXPECT_EQ(text_of(path), durable ? "second" : "first");
  }
  EXPECT_EQ(files_in_dir(), 1u);
  EXPECT_EQ(AtomicFile::create(dir_ / "absent" / "file").error().code(), Errc::kNotFound);
}

TEST_F(IoTest, AtomicFileSaysWhenItCannotReplace) {
  ASSERT_TRUE(std::filesystem::create_directory(dir_ / "target"));
  auto file = AtomicFile::create(dir_ / "target");
  ASSERT_TRUE(file);
  EXPECT_FALSE(file->commit(false));
  EXPECT_TRUE(std::filesystem::is_directory(dir_ / "target"));
}

TEST_F(IoTest, OnlyFilesAreReplaced) {
  const auto file = dir_ / "file";
  ASSERT_TRUE(replace_file(file, as_bytes("old")));
  std::filesystem::create_symlink("file", dir_ / "link");
  std::filesystem::create_symlink("nowhere", dir_ / "dangling");
  EXPECT_EQ(*replaceable_file(file), std::filesystem::canonical(file));
  EXPECT_EQ(*replaceable_file(dir_ / "link"), std::filesystem::canonical(file));
  EXPECT_EQ(*replaceable_file(dir_ / "new"), dir_ / "new");
  ASSERT_EQ(::mkfifo((dir_ / "fifo").c_str(), 0600), 0);
  for (const auto& path : {dir_ / "fifo", dir_ / "dangling", dir_, dir_ / "file/below"}) {
    EXPECT_FALSE(replaceable_file(path)) << path;
  }
  EXPECT_FALSE(replaceable_file("/dev/null"));
}

TEST_F(IoTest, AnonymousFilesHaveNoName) {
  const auto fd = anonymous_file(dir_);
  ASSERT_TRUE(fd);
  EXPECT_EQ(files_in_dir(), 0u);
  EXPECT_TRUE(pwrite_all(fd->get(), as_bytes("data"), 0));
  EXPECT_EQ(file_size(fd->get()).value(), 4u);
  EXPECT_NE(::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_FALSE(anonymous_file(dir_ / "absent"));
}

TEST_F(IoTest, SyncDirectoryWantsADirectory) {
  EXPECT_TRUE(sync_directory(dir_));
  EXPECT_FALSE(sync_directory(dir_ / "absent"));
}

}  // namespace
}  // namespace imsy
