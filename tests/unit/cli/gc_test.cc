#include "cli/gc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/image_maker.h"
#include "tests/unit/cli/support.h"

namespace imsy::cli {
namespace {

using ::testing::HasSubstr;

// A node with one image, and two objects that stayed when another one was removed.
class GcTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(root());
    store_ = *cas::Store::open(root() / "store");
    const auto kept = test::ImageMaker().file("a", "kept").make();
    const auto removed = test::ImageMaker().file("b", "second").file("c", "third").make();
    for (const auto* image : {&kept, &removed}) {
      ASSERT_TRUE(
          store_->add_image(image->manifest, image->manifest_bytes, image->anchor_text, ""));
      for (const auto& [path, content] : image->files) {
        const auto object = store_->open_object(*image->manifest, image->object(path), "");
        ASSERT_TRUE(object);
        ASSERT_TRUE(store_->put_chunk(**object, 0, content));
      }
    }
    ASSERT_TRUE(store_->remove_image(removed.manifest->digest()));
  }
  std::filesystem::path root() { return temp_ / "root"; }
  Ran gc(const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {"gc", "--root", root(), "--state", temp_ / "state"};
    args.insert(args.end(), more.begin(), more.end());
    return run_imsy(args);
  }

  TempDir temp_;
  std::unique_ptr<cas::Store> store_;
};

TEST_F(GcTest, DeletesWhatNoImageOwns) {
  store_.reset();
  const Ran first = gc();
  EXPECT_EQ(first.code, kExitDone) << first.err;
  EXPECT_EQ(first.out, "deleted 2 objects, 11 B\n");
  EXPECT_EQ(gc().out, "deleted 0 objects, 0 B\n");
  store_ = *cas::Store::open(root() / "store");
  EXPECT_EQ(store_->stats()->objects, 1u);
  EXPECT_EQ(store_->stats()->images.size(), 1u);
}

TEST_F(GcTest, DeletesNoMoreThanIsAskedFor) {
  store_.reset();
  EXPECT_EQ(gc({"--bytes", "1"}).out, "deleted 1 objects, 6 B\n") << "used longest ago";
  EXPECT_EQ(gc({"--bytes", "100"}).out, "deleted 1 objects, 5 B\n");
}

TEST_F(GcTest, ShrinksImagesWhenThatIsAskedFor) {
  const Digest kept = store_->images()->front();
  ASSERT_TRUE(store_->mark_resident(**store_->load_image(kept)));
  store_.reset();
  EXPECT_EQ(gc({"--shrink"}).out, "deleted 3 objects, 15 B\n");
  store_ = *cas::Store::open(root() / "store");
  EXPECT_TRUE(*store_->is_shrunk(kept));
}

TEST_F(GcTest, LeavesTheLimitsOnRecord) {
  store_.reset();
  store_ = *cas::Store::open(root() / "store", {.quota_bytes = 1 << 20, .free_floor_percent = 7});
  store_.reset();
  EXPECT_EQ(gc().code, kExitDone);
  EXPECT_EQ(run_imsy({"fsck", "--root", root(), "--state", temp_ / "state"}).code, kExitDone);
  const auto stats = cas::Store::open(root() / "store", {.read_only = true}).value()->stats();
  EXPECT_EQ(stats->quota_bytes, 1u << 20);
  EXPECT_EQ(stats->free_floor_percent, 7u);
}

TEST_F(GcTest, LeavesAStoreAloneThatIsInUse) {
  const Ran ran = gc();
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("imsy-snapshotter does not answer at"));
  EXPECT_THAT(ran.err, HasSubstr("--state"));
  EXPECT_EQ(store_->stats()->unowned_objects, 2u);
}

TEST_F(GcTest, MakesNoStore) {
  const Ran ran = run_imsy({"gc", "--root", temp_ / "nothing"});
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("no store in"));
  EXPECT_FALSE(std::filesystem::exists(temp_ / "nothing"));
}

}  // namespace
}  // namespace imsy::cli
