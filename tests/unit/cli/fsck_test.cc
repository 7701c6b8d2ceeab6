#include "cli/fsck.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/image_maker.h"
#include "tests/unit/cli/support.h"

namespace imsy::cli {
namespace {

using ::testing::HasSubstr;

// A node with one resident image.
class FsckTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(root());
    store_ = *cas::Store::open(root() / "store");
    ASSERT_TRUE(store_->add_image(image_.manifest, image_.manifest_bytes, image_.anchor_text, ""));
    const auto object = store_->open_object(*image_.manifest, image_.object("a"), "");
    ASSERT_TRUE(object);
    ASSERT_TRUE(store_->put_chunk(**object, 0, image_.files.at("a")));
    ASSERT_TRUE(store_->mark_resident(*image_.manifest));
  }
  std::filesystem::path root() { return temp_ / "root"; }
  std::filesystem::path file() {
    const std::string hex = image_.manifest->objects().id(image_.object("a")).hex();
    return root() / "store/objects" / hex.substr(0, 2) / hex;
  }
  void damage() {
    std::filesystem::permissions(file(), std::filesystem::perms::owner_all);
    write_file(file(), "kelp");
    std::filesystem::permissions(file(), std::filesystem::perms(0444));
  }
  Ran fsck(const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {"fsck", "--root", root(), "--state", temp_ / "state"};
    args.insert(args.end(), more.begin(), more.end());
    return run_imsy(args);
  }

  TempDir temp_;
  const test::MadeImage image_ = test::ImageMaker().file("a", "kept").make();
  std::unique_ptr<cas::Store> store_;
};

TEST_F(FsckTest, AStoreThatIsWell) {
  store_.reset();
  const Ran ran = fsck({"--read-data"});
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_EQ(ran.out, "checked 1 images and 1 objects, read 4 B: 0 findings, 0 repaired\n");
  EXPECT_EQ(ran.err, "");
}

TEST_F(FsckTest, FindsAndRepairs) {
  store_.reset();
  damage();
  EXPECT_EQ(fsck().code, kExitDone) << "contents are read only when that is asked for";
  const Ran found = fsck({"--read-data"});
  EXPECT_EQ(found.code, kExitFailed);
  EXPECT_THAT(found.out, HasSubstr("its bytes are not the chunk's; a check with repair mends it"));
  EXPECT_EQ(found.err,
            "imsy: 1 of 1 findings are not repaired; imsy fsck --repair mends what can "
            "be\n");
  const Ran repaired = fsck({"--read-data", "--repair"});
  EXPECT_EQ(repaired.code, kExitDone) << repaired.err;
  EXPECT_THAT(repaired.out, HasSubstr("1 findings, 1 repaired"));
  EXPECT_THAT(repaired.out, HasSubstr("fetched after its next start"));
  EXPECT_EQ(fsck({"--read-data"}).code, kExitDone);
  store_ = *cas::Store::open(root() / "store");
  EXPECT_FALSE(*store_->is_resident(image_.manifest->digest()));
}

TEST_F(FsckTest, Json) {
  store_.reset();
  damage();
  const Ran ran = fsck({"--read-data", "--json"});
  EXPECT_EQ(ran.code, kExitFailed);
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json["found"], 1);
  EXPECT_EQ(json["repaired"], 0);
  EXPECT_EQ(json["bytes_read"], 4);
  ASSERT_EQ(json["findings"].size(), 1u);
  EXPECT_EQ(json["findings"][0]["images"][0], image_.manifest->digest().to_string());
  EXPECT_EQ(nlohmann::json::parse(fsck({"--json"}).out)["findings"].size(), 0u);
}

TEST_F(FsckTest, AStoreInUseThatNobodyAnswersFor) {
  const Ran ran = fsck();
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("imsy-snapshotter does not answer at"));
  EXPECT_THAT(ran.err, HasSubstr("--state"));
}

TEST_F(FsckTest, MakesNoStore) {
  const Ran ran = run_imsy({"fsck", "--root", temp_ / "nothing"});
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_FALSE(std::filesystem::exists(temp_ / "nothing"));
  EXPECT_EQ(run_imsy({"fsck", "--what"}).code, kExitUsage);
}

}  // namespace
}  // namespace imsy::cli
