#include "cli/seed/directory.h"

#include <gtest/gtest.h>

#include "tests/unit/cli/support.h"

namespace imsy::cli::seed {
namespace {

constexpr std::uint64_t kLimit = 1 << 20;

class DirectoryTest : public ::testing::Test {
 protected:
  DirectoryTest() : directory_(*Directory::open(temp_ / "a" / "b")) {}

  std::filesystem::path file() const { return temp_ / "a" / "b" / digest_.hex(); }
  Errc load_error() const {
    const auto loaded = directory_.load(digest_, kLimit);
    return loaded ? Errc::kInternal : loaded.error().code();
  }

  TempDir temp_;
  Directory directory_;
  const std::string text_ = "some bytes";
  const Digest digest_ = sha256(text_);
};

TEST_F(DirectoryTest, GivesBackWhatItStored) {
  ASSERT_TRUE(directory_.store(digest_, as_bytes(text_)));
  EXPECT_EQ(read_all(file()), text_);
  const auto loaded = directory_.load(digest_, kLimit);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(as_text(*loaded), text_);
  EXPECT_EQ(names_in(temp_ / "a" / "b"), std::set<std::string>{digest_.hex()});
}

TEST_F(DirectoryTest, MakesFilesWithTheModeOfTheUmask) {
  const mode_t before = ::umask(027);
  ASSERT_TRUE(directory_.store(digest_, as_bytes(text_)));
  ::umask(before);
  struct stat st {};
  ASSERT_EQ(::stat(file().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0640u);
}

TEST_F(DirectoryTest, SaysWhatIsMissing) {
  EXPECT_EQ(load_error(), Errc::kNotFound);
}

TEST_F(DirectoryTest, LeavesAGoodFileAlone) {
  ASSERT_TRUE(directory_.store(digest_, as_bytes(text_)));
  const auto inode_of = [&] {
    struct stat st {};
    EXPECT_EQ(::stat(file().c_str(), &st), 0);
    return st.st_ino;
  };
  const auto before = inode_of();
  ASSERT_TRUE(directory_.store(digest_, as_bytes(text_)));
  EXPECT_EQ(inode_of(), before);
}

TEST_F(DirectoryTest, RefusesAndReplacesADamagedFile) {
  for (const std::string& damaged :
       {std::string("some byteX"), std::string("some"), std::string(), text_ + "and more"}) {
    write_file(file(), damaged);
    EXPECT_EQ(load_error(), Errc::kCorrupt);
    ASSERT_TRUE(directory_.store(digest_, as_bytes(text_)));
    EXPECT_EQ(read_all(file()), text_);
  }
  EXPECT_EQ(names_in(temp_ / "a" / "b"), std::set<std::string>{digest_.hex()});
}

TEST_F(DirectoryTest, ReadsNoMoreThanTheLimit) {
  ASSERT_TRUE(directory_.store(digest_, as_bytes(text_)));
  EXPECT_TRUE(directory_.load(digest_, text_.size()));
  const auto loaded = directory_.load(digest_, text_.size() - 1);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code(), Errc::kInvalid);
}

TEST_F(DirectoryTest, FollowsNoSymbolicLink) {
  write_file(temp_ / "elsewhere", text_);
  std::filesystem::create_symlink(temp_ / "elsewhere", file());
  EXPECT_EQ(load_error(), Errc::kNotFound);
  EXPECT_FALSE(directory_.open_entry(digest_));
  // Storing puts a real file in its place and leaves alone what it pointed to.
  write_file(temp_ / "elsewhere", "other");
  ASSERT_TRUE(directory_.store(digest_, as_bytes(text_)));
  EXPECT_TRUE(std::filesystem::is_regular_file(std::filesystem::symlink_status(file())));
  EXPECT_EQ(read_all(temp_ / "elsewhere"), "other");
}

TEST_F(DirectoryTest, IsNotHeldUpByWhatIsNoFile) {
  ASSERT_EQ(::mkfifo(file().c_str(), 0600), 0);
  EXPECT_EQ(load_error(), Errc::kNotFound);
  ASSERT_TRUE(directory_.store(digest_, as_bytes(text_)));
  EXPECT_EQ(read_all(file()), text_);
}

TEST_F(DirectoryTest, FailsWhereAFolderHasTheName) {
  std::filesystem::create_directory(file());
  EXPECT_EQ(load_error(), Errc::kNotFound);
  EXPECT_FALSE(directory_.store(digest_, as_bytes(text_)));
  EXPECT_EQ(names_in(temp_ / "a" / "b"), std::set<std::string>{digest_.hex()});
}

TEST(Directory, CannotBeOpenedWhereAFileIs) {
  TempDir temp;
  write_file(temp / "file", "");
  EXPECT_FALSE(Directory::open(temp / "file"));
  EXPECT_FALSE(Directory::open(temp / "file" / "below"));
}

}  // namespace
}  // namespace imsy::cli::seed
