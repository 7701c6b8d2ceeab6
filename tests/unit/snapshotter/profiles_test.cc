#include "snapshotter/profiles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::snapshotter {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

const Digest kOne = sha256("one");
const Digest kTwo = sha256("two");

class ProfilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto profiles = Profiles::open(folder());
    ASSERT_TRUE(profiles) << profiles.error().message();
    profiles_ = std::move(*profiles);
  }
  std::filesystem::path folder() const { return directory_ / "profiles"; }
  std::vector<Digest> list() const {
    const auto found = profiles_->list();
    EXPECT_TRUE(found);
    return found ? *found : std::vector<Digest>();
  }

  const test::TemporaryDirectory directory_;
  std::unique_ptr<Profiles> profiles_;
};

TEST_F(ProfilesTest, OnlyTheOwnerReadsThem) {
  const auto file = profiles_->create(kOne);
  ASSERT_TRUE(file);
  struct stat st = {};
  ASSERT_EQ(fstat(file->get(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600U);
  ASSERT_EQ(stat(folder().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0700U);
}

TEST_F(ProfilesTest, AFileIsMadeOnce) {
  ASSERT_TRUE(profiles_->create(kOne));
  const auto again = profiles_->create(kOne);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), Errc::kAlreadyExists);
  ASSERT_TRUE(profiles_->remove(kOne));
  EXPECT_TRUE(profiles_->create(kOne));
}

TEST_F(ProfilesTest, ListsWhatIsThere) {
  EXPECT_THAT(list(), IsEmpty());
  ASSERT_TRUE(profiles_->create(kOne));
  ASSERT_TRUE(profiles_->create(kTwo));
  std::ofstream(folder() / "notes") << "of somebody";
  EXPECT_THAT(list(), UnorderedElementsAre(kOne, kTwo));
  EXPECT_TRUE(profiles_->remove(kOne));
  EXPECT_TRUE(profiles_->remove(kOne)) << "absent is no error";
  EXPECT_THAT(list(), UnorderedElementsAre(kTwo));
}

TEST_F(ProfilesTest, APlantedLinkIsNotFollowed) {
  std::filesystem::create_symlink(directory_ / "elsewhere", folder() / kOne.hex());
  EXPECT_FALSE(profiles_->create(kOne));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "elsewhere"));
}

TEST_F(ProfilesTest, ADirectoryOfOthersIsRefused) {
  ASSERT_EQ(chmod(folder().c_str(), 0777), 0);
  const auto profiles = Profiles::open(folder());
  ASSERT_FALSE(profiles);
  EXPECT_EQ(profiles.error().code(), Errc::kFailedPrecondition);
}

}  // namespace
}  // namespace imsy::snapshotter
