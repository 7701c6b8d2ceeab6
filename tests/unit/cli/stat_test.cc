#include "cli/stat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/image_maker.h"
#include "tests/unit/cli/support.h"

namespace imsy::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// A node with two images: one complete and resident, one of which a part is there; and one object
// that stayed when its image was removed.
class StatTest : public ::testing::Test {
 protected:
  void SetUp() override {
    resident_ = test::ImageMaker().file("a", "first").file("b", "second one").make();
    partial_ = test::ImageMaker().file("a", "first").file("c", "third").make();
    auto removed = test::ImageMaker().file("d", "removed").make();
    std::filesystem::create_directory(temp_ / "root");
    store_ = *cas::Store::open(temp_ / "root" / "store");
    for (const auto* image : {&resident_, &partial_, &removed}) {
      ASSERT_TRUE(
          store_->add_image(image->manifest, image->manifest_bytes, image->anchor_text, ""));
    }
    for (const auto& [path, content] : resident_.files) put(resident_, path);
    put(removed, "d");
    ASSERT_TRUE(store_->mark_resident(*resident_.manifest));
    ASSERT_TRUE(store_->remove_image(removed.manifest->digest()));
  }

  void put(const test::MadeImage& image, const std::string& path) {
    const auto object = store_->open_object(*image.manifest, image.object(path), "");
    ASSERT_TRUE(object);
    ASSERT_TRUE(store_->put_chunk(**object, 0, image.files.at(path)));
  }

  Ran stat(std::vector<std::string> more = {}) {
    std::vector<std::string> args = {"stat", "--root", temp_ / "root", "--state", temp_ / "state"};
    args.insert(args.end(), more.begin(), more.end());
    return run_imsy(args);
  }

  TempDir temp_;
  test::MadeImage resident_;
  test::MadeImage partial_;
  std::unique_ptr<cas::Store> store_;
};

TEST_F(StatTest, CountsForPrograms) {
  // While the daemon has the store, and when it has not.
  for (const bool in_use : {true, false}) {
    if (!in_use) store_.reset();
    const Ran ran = stat({"--json"});
    ASSERT_EQ(ran.code, kExitDone) << ran.err;
    const auto json = nlohmann::json::parse(ran.out);
    EXPECT_EQ(json["objects"], 3);
    EXPECT_EQ(json["object_bytes"], 5 + 10 + 7);
    EXPECT_EQ(json["owned_objects"], 2);
    EXPECT_EQ(json["owned_bytes"], 5 + 10);
    EXPECT_EQ(json["unowned_objects"], 1);
    EXPECT_EQ(json["unowned_bytes"], 7);
    EXPECT_EQ(json["partial_objects"], 0);
    ASSERT_EQ(json["images"].size(), 2u);
    for (const auto& image : json["images"]) {
      const bool is_resident = image["manifest"] == resident_.manifest->digest().to_string();
      EXPECT_TRUE(is_resident || image["manifest"] == partial_.manifest->digest().to_string());
      EXPECT_EQ(image["resident"], is_resident);
      EXPECT_EQ(image["objects"], 2);
      EXPECT_EQ(image["bytes"], is_resident ? 15 : 10);
    }
  }
}

TEST_F(StatTest, CountsForPeople) {
  const Ran ran = stat();
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("unowned              1         7 B"));
  EXPECT_THAT(ran.out, HasSubstr(resident_.manifest->digest().to_string() + "  resident "));
  EXPECT_THAT(ran.out, HasSubstr(partial_.manifest->digest().to_string() + "  not resident "));
}

TEST_F(StatTest, SaysWhatTheDaemonHasFetched) {
  EXPECT_FALSE(nlohmann::json::parse(stat({"--json"}).out).contains("traffic"));
  std::filesystem::create_directory(temp_ / "state");
  std::ofstream(temp_ / "state" / "stats.json") << R"({
    "bytes_fetched": 3500, "requests": 5, "bytes_gap": 10, "bytes_broken": 20, "bytes_wrong": 30,
    "places": {"http://mirror/v2/app": {"demand": {"requests": 2, "bytes": 1500},
                                        "login": {"requests": 3, "bytes": 2000}}}})";
  const auto json = nlohmann::json::parse(stat({"--json"}).out)["traffic"];
  EXPECT_EQ(json["requests"], 5);
  EXPECT_EQ(json["bytes"], 3500);
  EXPECT_EQ(json["bytes_gap"], 10);
  EXPECT_EQ(json["bytes_broken"], 20);
  EXPECT_EQ(json["bytes_wrong"], 30);
  EXPECT_EQ(json["places"]["http://mirror/v2/app"]["login"]["bytes"], 2000);
  const std::string text = stat().out;
  EXPECT_THAT(text, HasSubstr("requests             5      3.5 kB  received"));
  EXPECT_THAT(text, HasSubstr("  http://mirror/v2/app\n    demand"));
  EXPECT_THAT(text, HasSubstr("30 B  of these, not what"));
}

TEST_F(StatTest, RefusesNumbersThatAreNone) {
  std::filesystem::create_directory(temp_ / "state");
  for (const char* text : {"", "[]", R"({"requests": -1})", R"({"requests": 1})"}) {
    std::ofstream(temp_ / "state" / "stats.json") << text;
    const Ran ran = stat();
    EXPECT_EQ(ran.code, kExitFailed) << text;
    EXPECT_THAT(ran.err, HasSubstr("stats.json")) << text;
  }
}

TEST_F(StatTest, RefusesArgumentsThatItDoesNotKnow) {
  EXPECT_EQ(stat({"--nonsense"}).code, kExitUsage);
  EXPECT_EQ(stat({"word"}).code, kExitUsage);
  EXPECT_EQ(run_imsy({"stat", "--root"}).code, kExitUsage);
}

TEST(Stat, SaysWhereItLooked) {
  TempDir temp;
  const Ran ran = run_imsy({"stat", "--root", temp / "nothing"});
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, MatchesRegex("imsy: no store in .*/nothing; name the root .*\n"));
  EXPECT_FALSE(std::filesystem::exists(temp / "nothing"));
}

TEST(Stat, WritesSizesInShort) {
  const std::vector<std::pair<std::uint64_t, std::string>> cases = {
      {0, " 0 B  complete"},
      {999, " 999 B  complete"},
      {1000, " 1.0 kB  complete"},
      {999'949, " 999.9 kB  complete"},
      {999'950, " 1.0 MB  complete"},
      {318'200'000, " 318.2 MB  complete"},
      {UINT64_MAX, " 18.4 EB  complete"}};
  for (const auto& [bytes, expected] : cases) {
    cas::StoreStats stats;
    stats.object_bytes = bytes;
    EXPECT_THAT(to_text(stats), HasSubstr(expected));
  }
}

}  // namespace
}  // namespace imsy::cli
