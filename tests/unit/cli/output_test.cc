#include "common/output.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "tests/unit/cli/support.h"

namespace imsy::cli {
namespace {

TEST(Output, AppearsWhenItIsComplete) {
  TempDir temp;
  auto output = Output::open(temp / "out");
  ASSERT_TRUE(output);
  ASSERT_TRUE(output->write(as_bytes("one ")));
  ASSERT_TRUE(output->write(as_bytes("two")));
  EXPECT_FALSE(std::filesystem::exists(temp / "out"));
  ASSERT_TRUE(output->commit());
  EXPECT_EQ(read_all(temp / "out"), "one two");
}

TEST(Output, LeavesNothingWithoutCommit) {
  TempDir temp;
  write_file(temp / "out", "before");
  {
    auto output = Output::open(temp / "out");
    ASSERT_TRUE(output);
    ASSERT_TRUE(output->write(as_bytes("after")));
  }
  EXPECT_EQ(read_all(temp / "out"), "before");
  EXPECT_EQ(names_in(temp / ""), std::set<std::string>{"out"});
}

TEST(Output, ReplacesAFileAndKeepsItsMode) {
  TempDir temp;
  write_file(temp / "out", "a longer text than the new one");
  ASSERT_EQ(::chmod((temp / "out").c_str(), 0751), 0);
  auto output = Output::open(temp / "out");
  ASSERT_TRUE(output);
  ASSERT_TRUE(output->write(as_bytes("after")));
  EXPECT_EQ(read_all(temp / "out"), "a longer text than the new one");
  ASSERT_TRUE(output->commit());
  EXPECT_EQ(read_all(temp / "out"), "after");
  EXPECT_EQ(names_in(temp / ""), std::set<std::string>{"out"});
  struct stat st {};
  ASSERT_EQ(::stat((temp / "out").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0751u);
}

TEST(Output, ReplacesTheFileBehindASymbolicLink) {
  TempDir temp;
  std::filesystem::create_directory(temp / "there");
  write_file(temp / "there" / "file", "before");
  std::filesystem::create_symlink("there/file", temp / "out");
  auto output = Output::open(temp / "out");
  ASSERT_TRUE(output);
  ASSERT_TRUE(output->write(as_bytes("after")));
  ASSERT_TRUE(output->commit());
  EXPECT_TRUE(std::filesystem::is_symlink(temp / "out"));
  EXPECT_EQ(read_all(temp / "there" / "file"), "after");
}

TEST(Output, WritesDirectlyToWhatCannotBeReplaced) {
  TempDir temp;
  ASSERT_EQ(::mkfifo((temp / "pipe").c_str(), 0600), 0);
  const UniqueFd reader(::open((temp / "pipe").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  auto output = Output::open(temp / "pipe");
  ASSERT_TRUE(output);
  ASSERT_TRUE(output->write(as_bytes("text")));
  ASSERT_TRUE(output->commit());
  std::byte got[8];
  const auto size = read_some(reader.get(), got);
  ASSERT_TRUE(size);
  EXPECT_EQ(as_text(std::span(got, *size)), "text");
  EXPECT_TRUE(std::filesystem::is_fifo(temp / "pipe"));
}

TEST(Output, CannotBeAFolder) {
  TempDir temp;
  EXPECT_FALSE(Output::open(temp / ""));
  EXPECT_FALSE(Output::open(temp / "missing" / "out"));
}

}  // namespace
}  // namespace imsy::cli
