#include "cli/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cas/store.h"
#include "cdc/recording.h"
#include "tests/support/image_maker.h"
#include "tests/unit/cli/support.h"

namespace imsy::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// A node with one image of which two files were read.
class RecordedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(temp_ / "root" / "profiles");
    store_ = *cas::Store::open(temp_ / "root" / "store");
    ASSERT_TRUE(store_->add_image(image_.manifest, image_.manifest_bytes, image_.anchor_text, ""));
    std::string recording;
    for (const char* path : {"usr/tool", "etc/a name"}) {
      cdc::append_access(recording, image_.manifest->objects().first_chunk(image_.object(path)));
    }
    write_file(file(), recording);
  }

  std::string digest() const { return image_.manifest->digest().to_string(); }
  std::filesystem::path file() const {
    return temp_ / "root" / "profiles" / image_.manifest->digest().hex();
  }
  Ran recorded(const std::string& manifest) {
    return run_imsy({"profile", "recorded", "--root", temp_ / "root", manifest});
  }

  TempDir temp_;
  const test::MadeImage image_ =
      test::ImageMaker().file("usr/tool", "tool").file("etc/a name", "value").make();
  std::unique_ptr<cas::Store> store_;
};

TEST_F(RecordedTest, PrintsWhatWasReadInOrder) {
  // While the daemon has the store, and when it has not.
  for (const bool in_use : {true, false}) {
    if (!in_use) store_.reset();
    const Ran ran = recorded(digest());
    EXPECT_EQ(ran.code, kExitDone) << ran.err;
    EXPECT_EQ(ran.out, "imsy-profile 1\n0 4 usr/tool\n0 5 etc/a\\040name\n");
  }
}

TEST_F(RecordedTest, SaysWhenNothingWasRecorded) {
  std::filesystem::remove(file());
  const Ran ran = recorded(digest());
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err,
              MatchesRegex("imsy: no start of image sha256:.* is recorded in .*; run .*\n"));
}

TEST_F(RecordedTest, SaysWhatIsDamaged) {
  write_file(file(), "0\nnonsense\n");
  const Ran ran = recorded(digest());
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("line 2 "));
  EXPECT_THAT(ran.err, HasSubstr(file().string()));
  EXPECT_THAT(ran.err, HasSubstr("delete it"));
}

TEST_F(RecordedTest, RefusesWhatIsNoDigest) {
  const Ran ran = recorded("../../etc/passwd");
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("imsy stat shows them"));
  EXPECT_EQ(run_imsy({"profile", "recorded"}).code, kExitUsage);
  EXPECT_EQ(run_imsy({"profile", "recorded", digest(), digest()}).code, kExitUsage);
  EXPECT_EQ(run_imsy({"profile"}).code, kExitUsage);
  EXPECT_EQ(run_imsy({"profile", "nonsense"}).code, kExitUsage);
}

TEST(ProfileMerge, PrintsTheMerge) {
  TempDir temp;
  write_file(temp / "one", "imsy-profile 1\n0 10 a\n0 10 b\n");
  write_file(temp / "two", "imsy-profile 1\n0 10 b\n0 10 c\n0 10 a\n");
  const Ran ran = run_imsy({"profile", "merge", temp / "one", temp / "two"});
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_EQ(ran.out, "imsy-profile 1\n0 10 b\n0 10 a\n0 10 c\n");
}

TEST(ProfileMerge, NamesTheFileThatIsWrong) {
  TempDir temp;
  write_file(temp / "one", "imsy-profile 1\n0 10 a\n");
  write_file(temp / "two", "imsy-profile 1\nnonsense\n");
  const Ran damaged = run_imsy({"profile", "merge", temp / "one", temp / "two"});
  EXPECT_EQ(damaged.code, kExitFailed);
  EXPECT_EQ(damaged.out, "");
  EXPECT_THAT(damaged.err, MatchesRegex("imsy: .*/two: line 2 of the profile: .*\n"));
  const Ran absent = run_imsy({"profile", "merge", temp / "three"});
  EXPECT_EQ(absent.code, kExitFailed);
  EXPECT_THAT(absent.err, HasSubstr("/three"));
  EXPECT_EQ(run_imsy({"profile", "merge"}).code, kExitUsage);
}

}  // namespace
}  // namespace imsy::cli
