// What is given up, what stays, and that it makes room.
#include "cas/cleaner.h"

#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <thread>

#include "cas/sqlite.h"
#include "tests/unit/cas/fixture.h"

namespace imsy::cas {
namespace {

namespace fs = std::filesystem;

class CleanerTest : public ::testing::Test {
 protected:
  CleanerTest() { open(); }
  void open(const StoreOptions& options = {}) {
    store_.reset();
    store_ = open_store(root(), options);
  }
  fs::path root() const { return dir_.path() / "store"; }
  static fs::path file(const fs::path& root, const char* place, const test::MadeImage& image,
                       const std::string& path) {
    return object_path(root, place, image.manifest->objects().id(image.object(path)));
  }
  bool is_there(const test::MadeImage& image, const std::string& path) {
    return fs::exists(file(root(), "objects", image, path));
  }
  void bring(const test::MadeImage& image) {
    ASSERT_OK(add(*store_, image));
    put_all(*store_, image);
  }
  void remove(const test::MadeImage& image) {
    ASSERT_OK(store_->remove_image(image.manifest->digest()));
  }
  std::uint64_t collect() {
    const auto collected = store_->collect();
    EXPECT_OK(collected);
    return collected ? collected->objects : 0;
  }
  void expect_content(const test::MadeImage& image) {
    for (const auto& [path, content] : image.files) {
      auto object = store_->open_object(*image.manifest, image.object(path), "");
      ASSERT_OK(object);
      ASSERT_TRUE((*object)->complete()) << path;
      Bytes bytes(content.size());
      ASSERT_OK((*object)->read(0, bytes));
      EXPECT_TRUE(bytes == content) << path;
    }
  }

  const test::MadeImage old_ = test::ImageMaker()
                                   .file("large", test::random_bytes(500'000, 1))
                                   .file("small", "old")
                                   .file("shared", test::random_bytes(200'000, 2))
                                   .make();
  const test::MadeImage new_ =
      test::ImageMaker().file("small", "new").file("shared", test::random_bytes(200'000, 2)).make();
  TempDir dir_{TempDir::On::kMemory};
  std::unique_ptr<Store> store_;
};

TEST_F(CleanerTest, DeletesWhatNoImageOwnsAndNothingElse) {
  bring(old_);
  bring(new_);
  EXPECT_EQ(collect(), 0u);
  remove(old_);
  EXPECT_EQ(collect(), 2u);
  EXPECT_FALSE(is_there(old_, "large"));
  EXPECT_FALSE(is_there(old_, "small"));
  EXPECT_TRUE(is_there(old_, "shared"));
  EXPECT_TRUE(fs::is_empty(root() / "trash"));
  expect_content(new_);
  const auto stats = store_->stats();
  ASSERT_OK(stats);
  EXPECT_EQ(stats->objects, 2u);
  EXPECT_EQ(stats->unowned_objects, 0u);
  ASSERT_OK(store_->mark_resident(*new_.manifest));
  open();
  expect_content(new_);
}

TEST_F(CleanerTest, DeletesPartsThatNoImageOwns) {
  ASSERT_OK(add(*store_, old_));
  {
    const auto large = store_->open_object(*old_.manifest, old_.object("large"), "");
    ASSERT_OK(large);
    ASSERT_OK(store_->put_chunk(**large, 1, chunk_bytes(old_, "large", 1)));
  }
  EXPECT_EQ(collect(), 0u);
  remove(old_);
  EXPECT_EQ(collect(), 1u);
  EXPECT_FALSE(fs::exists(file(root(), "partial", old_, "large")));
}

TEST_F(CleanerTest, WhatIsOpenStays) {
  bring(old_);
  auto large = store_->open_object(*old_.manifest, old_.object("large"), "");
  ASSERT_OK(large);
  remove(old_);
  EXPECT_EQ(collect(), 2u);
  Bytes bytes(500'000);
  ASSERT_OK((*large)->read(0, bytes));
  EXPECT_TRUE(bytes == old_.files.at("large"));
  EXPECT_TRUE(is_there(old_, "large"));
  large->reset();
  EXPECT_EQ(collect(), 1u);
  EXPECT_FALSE(is_there(old_, "large"));
}

TEST_F(CleanerTest, WhatWasGivenUpComesBackAsNew) {
  bring(old_);
  const cdc::Chunk first = old_.manifest->objects().chunks_of(old_.object("large"))[0];
  EXPECT_TRUE(*store_->find_chunk(first, ""));
  remove(old_);
  EXPECT_EQ(collect(), 3u);
  EXPECT_FALSE(store_->likely_chunks(std::span(&first, 1), "")[0]);
  ASSERT_OK(add(*store_, old_));
  EXPECT_EQ(code_of(store_->mark_resident(*old_.manifest)), Errc::kFailedPrecondition);
  put_all(*store_, old_);
  EXPECT_OK(store_->mark_resident(*old_.manifest));
  expect_content(old_);
  EXPECT_TRUE(*store_->find_chunk(first, ""));
}

TEST_F(CleanerTest, ACrashBetweenTheFileAndTheIndexPromisesNothing) {
  bring(old_);
  ASSERT_OK(store_->mark_resident(*old_.manifest));
  remove(old_);
  // All gone but the index, which is as it was.
  for (const char* name : {"index.db", "index.db-wal"}) fs::copy(root() / name, dir_.path() / name);
  EXPECT_EQ(collect(), 3u);
  std::ofstream(root() / "trash" / std::string(64, 'a')) << "left behind";
  store_.reset();
  for (const char* name : {"index.db", "index.db-wal"}) {
    fs::rename(dir_.path() / name, root() / name);
  }
  open();
  EXPECT_TRUE(fs::is_empty(root() / "trash"));
  ASSERT_OK(add(*store_, old_));
  EXPECT_EQ(code_of(store_->mark_resident(*old_.manifest)), Errc::kFailedPrecondition);
  put_all(*store_, old_);
  EXPECT_OK(store_->mark_resident(*old_.manifest));
  expect_content(old_);
}

TEST_F(CleanerTest, AStoreThatIsOpenForReadingDeletesNothing) {
  bring(old_);
  const auto reader = Store::open(root(), {.read_only = true});
  ASSERT_OK(reader);
  EXPECT_EQ(code_of((*reader)->collect()), Errc::kFailedPrecondition);
}

// --- images that are shrunk

class ShrinkTest : public CleanerTest {
 protected:
  ShrinkTest() {
    for (const test::MadeImage* image : {&old_, &new_}) {
      bring(*image);
      EXPECT_OK(store_->mark_resident(*image->manifest));
    }
  }
  static const Digest& name(const test::MadeImage& image) { return image.manifest->digest(); }
  bool shrunk(const test::MadeImage& image) {
    const auto shrunk = store_->is_shrunk(name(image));
    EXPECT_OK(shrunk);
    return shrunk && *shrunk;
  }
  bool resident(const test::MadeImage& image) {
    const auto resident = store_->is_resident(name(image));
    EXPECT_OK(resident);
    return resident && *resident;
  }
  // Seconds since 1970.
  void set_used(const test::MadeImage& image, std::int64_t used) {
    auto database = Database::open(root() / "index.db", Database::Mode::kCreate);
    ASSERT_OK(database);
    auto set = database->prepare("UPDATE image SET used = ?2 WHERE manifest = ?1");
    ASSERT_OK(set);
    ASSERT_OK(set->bind(1, name(image)).bind(2, used).run());
  }
  std::uint64_t shrink(std::uint64_t bytes = 1) {
    const auto collected = store_->collect(Store::Extent::kShrink, bytes);
    EXPECT_OK(collected);
    return collected ? collected->objects : 0;
  }
};

// Else a crash might bring back the record of the file that was given up, for the one that came in
// its place and is not on the disk yet.
TEST_F(ShrinkTest, WhatIsGivenUpIsSettledBeforeItComesBack) {
  const auto settled = [&]() -> std::int64_t {
    auto database = Database::open(root() / "index.db", Database::Mode::kRead);
    auto get = database->prepare("SELECT value FROM meta WHERE key = 'settled'");
    const auto value = get->run_for_integer();
    return value ? *value : 0;
  };
  set_used(new_, 10);
  ASSERT_GT(shrink(), 0u);
  ASSERT_FALSE(is_there(new_, "small"));
  EXPECT_EQ(settled(), 0);
  put_all(*store_, new_);
  EXPECT_TRUE(is_there(new_, "small"));
  EXPECT_EQ(settled(), 1) << "once for all that were given up together";
}

TEST_F(ShrinkTest, TheOneUsedLongestAgoLosesWhatNoOtherImageWants) {
  set_used(new_, 10);
  EXPECT_GT(shrink(), 0u);
  EXPECT_TRUE(shrunk(new_));
  EXPECT_FALSE(resident(new_));
  EXPECT_FALSE(is_there(new_, "small"));
  EXPECT_TRUE(is_there(new_, "shared")) << "the other image wants it";
  EXPECT_FALSE(shrunk(old_));
  EXPECT_TRUE(resident(old_));
  expect_content(old_);
}

TEST_F(ShrinkTest, OnlyUnownedContentGoesUnlessMoreIsAskedFor) {
  EXPECT_EQ(collect(), 0u);
  EXPECT_FALSE(shrunk(old_));
  EXPECT_FALSE(shrunk(new_));
}

TEST_F(ShrinkTest, UseMakesAnImageTheLastOne) {
  set_used(old_, 10);
  set_used(new_, 20);
  ASSERT_OK(store_->use_image(name(old_)));
  shrink();
  EXPECT_FALSE(shrunk(old_));
  EXPECT_TRUE(shrunk(new_));
}

TEST_F(ShrinkTest, APinnedImageStays) {
  set_used(old_, 10);
  ASSERT_OK(store_->pin(name(old_), true));
  open();
  shrink(100'000'000);
  EXPECT_TRUE(resident(old_));
  EXPECT_TRUE(shrunk(new_));
  expect_content(old_);
  ASSERT_OK(store_->pin(name(old_), false));
  shrink(100'000'000);
  EXPECT_TRUE(shrunk(old_));
}

TEST_F(ShrinkTest, IsRememberedUntilTheImageIsUsedOrWhole) {
  EXPECT_EQ(shrink(100'000'000), 4u);
  open();
  EXPECT_TRUE(shrunk(old_));
  EXPECT_TRUE(shrunk(new_));
  ASSERT_OK(store_->use_image(name(old_)));
  open();
  EXPECT_FALSE(shrunk(old_));
  EXPECT_FALSE(resident(old_));
  put_all(*store_, new_);
  ASSERT_OK(store_->mark_resident(*new_.manifest));
  EXPECT_FALSE(shrunk(new_)) << "somebody has filled it";
  expect_content(new_);
}

TEST_F(ShrinkTest, StaysShrunkWhereAllOfItHasNoRoom) {
  shrink(100'000'000);
  const auto use_within = [&](std::uint64_t quota, const test::MadeImage& image) {
    store_.reset();
    store_ = open_store(root(), {.quota_bytes = quota, .keep_limits = false});
    EXPECT_OK(store_->use_image(name(image)));
    return !shrunk(image);
  };
  EXPECT_FALSE(use_within(400'000, old_));
  EXPECT_TRUE(use_within(10'000'000, old_));
  put_all(*store_, old_);
  ASSERT_OK(store_->mark_resident(*old_.manifest));
  EXPECT_FALSE(use_within(700'000, new_)) << "the other one has most of it";
  ASSERT_OK(store_->remove_image(name(old_)));
  EXPECT_TRUE(use_within(700'000, new_)) << "what nobody owns can give way";
}

TEST_F(ShrinkTest, WhatIsReadOfAShrunkImageMayGoAgainAndAgain) {
  shrink(100'000'000);
  for (int i = 0; i < 2; ++i) {
    put_file(*store_, old_, "large");
    EXPECT_EQ(collect(), 0u) << "it is owned";
    EXPECT_EQ(shrink(100'000'000), 1u);
    EXPECT_FALSE(is_there(old_, "large"));
  }
}

TEST_F(ShrinkTest, AnImageThatIsNotResidentIsNotShrunk) {
  const auto filling = test::ImageMaker().file("a", "1").file("b", "2").make();
  ASSERT_OK(add(*store_, filling));
  put_file(*store_, filling, "a");
  shrink(100'000'000);
  EXPECT_FALSE(shrunk(filling)) << "its fill would fetch all of it again";
  EXPECT_TRUE(is_there(filling, "a"));
}

TEST_F(ShrinkTest, WhatIsOpenIsClosedOrStays) {
  auto large = store_->open_object(*old_.manifest, old_.object("large"), "");
  auto small = store_->open_object(*old_.manifest, old_.object("small"), "");
  ASSERT_OK(large);
  ASSERT_OK(small);
  store_->set_closer([&] { small->reset(); });
  shrink(100'000'000);
  EXPECT_TRUE(is_there(old_, "large")) << "somebody reads it";
  EXPECT_FALSE(is_there(old_, "small"));
  Bytes bytes(500'000);
  EXPECT_OK((*large)->read(0, bytes));
}

TEST_F(ShrinkTest, AnUnknownImageIsNeitherUsedNorPinned) {
  const Digest unknown = sha256("unknown");
  EXPECT_FALSE(*store_->is_shrunk(unknown));
  EXPECT_EQ(code_of(store_->use_image(unknown)), Errc::kFailedPrecondition);
  EXPECT_EQ(code_of(store_->pin(unknown, true)), Errc::kFailedPrecondition);
}

TEST_F(ShrinkTest, TheReportSaysIt) {
  set_used(old_, 10);
  ASSERT_OK(store_->pin(name(new_), true));
  shrink();
  const auto stats = store_->stats();
  ASSERT_OK(stats);
  ASSERT_EQ(stats->images.size(), 2u);
  EXPECT_TRUE(stats->images[0].shrunk);
  EXPECT_FALSE(stats->images[0].pinned);
  EXPECT_FALSE(stats->images[1].shrunk);
  EXPECT_TRUE(stats->images[1].pinned);
  ASSERT_EQ(stats->domains.size(), 1u);
  EXPECT_EQ(stats->domains[0].name, "");
  EXPECT_EQ(stats->domains[0].objects, stats->objects);
}

// --- limits, on the cleaner alone

class LimitsTest : public ::testing::Test {
 protected:
  // Objects of 100 bytes that nobody owns; `used` tells when, in seconds since 1970.
  void make(const std::vector<std::int64_t>& used) {
    const std::size_t first = ids_.size();
    for (std::size_t i = 0; i < used.size(); ++i) {
      const cdc::ObjectId id = sha256(std::to_string(ids_.size()));
      ids_.push_back(id);
      const auto partial = layout_.create_partial(id, 100, false);
      ASSERT_OK(partial);
      ASSERT_OK(layout_.move_object(id, Place::kObjects));
      opened_.index->add_complete({id, 100, ""});
    }
    ASSERT_OK(opened_.index->flush());
    auto database = Database::open(layout_.index_path(), Database::Mode::kCreate);
    ASSERT_OK(database);
    for (std::size_t i = 0; i < used.size(); ++i) {
      auto set = database->prepare("UPDATE object SET used = ?2 WHERE id = ?1");
      ASSERT_OK(set);
      ASSERT_OK(set->bind(1, ids_[first + i]).bind(2, used[i]).run());
    }
  }
  Cleaner::Discard discard() {
    return [this](const cdc::ObjectId& id,
                  Layout::Discard how) -> Result<std::optional<std::uint64_t>> {
      if (id == open_) return std::optional<std::uint64_t>();
      return discard_idle(layout_, *opened_.index, id, how);
    };
  }
  // Numbers of the objects that are left.
  std::vector<std::size_t> left() {
    std::vector<std::size_t> left;
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      if (fs::exists(object_path(layout_.root(), "objects", ids_[i]))) left.push_back(i);
    }
    return left;
  }
  std::size_t in_trash() const {
    return std::distance(fs::directory_iterator(layout_.root() / "trash"),
                         fs::directory_iterator());
  }
  using Numbers = std::vector<std::size_t>;

  TempDir dir_{TempDir::On::kMemory};
  const Layout layout_ = std::move(*Layout::open(dir_.path() / "store", /*lock=*/true));
  Index::Opened opened_ = std::move(*Index::open(layout_));
  std::vector<cdc::ObjectId> ids_;
  cdc::ObjectId open_;
};

TEST_F(LimitsTest, WhatWasUsedLongestAgoGoesFirst) {
  make({50, 10, 40, 20, 30});
  Cleaner cleaner(layout_, *opened_.index, {.quota_bytes = 250}, discard());
  ASSERT_OK(cleaner.keep_limits());
  EXPECT_EQ(left(), (Numbers{0, 2}));
  ASSERT_OK(cleaner.keep_limits());
  EXPECT_EQ(left(), (Numbers{0, 2})) << "what lies in the trash is given up already";
  EXPECT_EQ(in_trash(), 3u);
  EXPECT_TRUE(cleaner.make_room(1, cleaner.rooms_made(), Store::Extent::kShrink));
  EXPECT_EQ(in_trash(), 0u);
  EXPECT_EQ(left(), (Numbers{0, 2})) << "the trash was enough";
}

TEST_F(LimitsTest, OtherLimitsHoldAtOnce) {
  make({10, 20, 30});
  Cleaner cleaner(layout_, *opened_.index, {}, discard());
  ASSERT_OK(cleaner.keep_limits());
  EXPECT_EQ(left(), (Numbers{0, 1, 2}));
  cleaner.set_limits(200, 0);
  ASSERT_OK(cleaner.keep_limits());
  EXPECT_EQ(left(), (Numbers{1, 2}));
}

TEST_F(LimitsTest, WhatIsUsedAgainGoesLater) {
  make({10, 20, 30});
  opened_.index->touch(ids_[0]);
  Cleaner cleaner(layout_, *opened_.index, {.quota_bytes = 200}, discard());
  ASSERT_OK(cleaner.keep_limits());
  EXPECT_EQ(left(), (Numbers{0, 2}));
}

TEST_F(LimitsTest, WhatIsOpenIsPassedOver) {
  make({10, 20, 30});
  open_ = ids_[0];
  Cleaner cleaner(layout_, *opened_.index, {.quota_bytes = 150}, discard());
  ASSERT_OK(cleaner.keep_limits());
  EXPECT_EQ(left(), (Numbers{0}));
}

TEST_F(LimitsTest, AFloorOfFreeSpaceIsKept) {
  make({10, 20, 30});
  // No file system has so much free, so that all has to go.
  Cleaner cleaner(layout_, *opened_.index, {.free_floor_percent = 100}, discard());
  ASSERT_OK(cleaner.keep_limits());
  EXPECT_EQ(left(), Numbers());
}

TEST_F(LimitsTest, WithoutLimitsEverythingStaysUntilThereIsNoRoom) {
  make({10, 20, 30});
  Cleaner cleaner(layout_, *opened_.index, {}, discard());
  ASSERT_OK(cleaner.keep_limits());
  EXPECT_EQ(left(), (Numbers{0, 1, 2}));
  EXPECT_TRUE(cleaner.make_room(1, cleaner.rooms_made(), Store::Extent::kShrink));
  EXPECT_EQ(left(), Numbers());
  EXPECT_EQ(in_trash(), 0u);
  EXPECT_FALSE(cleaner.make_room(1, cleaner.rooms_made(), Store::Extent::kShrink));
  EXPECT_TRUE(cleaner.make_room(1, 0, Store::Extent::kShrink))
      << "since this one looked, another has made room";
}

TEST_F(LimitsTest, WhatIsPutIsAddedUpUntilTheQuotaIsReached) {
  make({10, 20});
  Cleaner cleaner(layout_, *opened_.index, {.quota_bytes = 250}, discard());
  ASSERT_OK(cleaner.keep_limits());
  EXPECT_EQ(left(), (Numbers{0, 1}));
  make({30});
  cleaner.add_put(100);
  ASSERT_OK(cleaner.keep_limits());
  EXPECT_EQ(left().size(), 2u);
}

TEST_F(LimitsTest, APartGivesBackWhatItHasOnTheDisk) {
  const cdc::ObjectId id = sha256("part");
  const auto partial = layout_.create_partial(id, 1'000'000, false);
  ASSERT_OK(partial);
  ASSERT_OK(pwrite_all(partial->get(), Bytes(4096), 0));
  opened_.index->add_chunk(sha256("chunk"), {id, 1'000'000, ""}, 0);
  const auto bytes = discard_idle(layout_, *opened_.index, id, Layout::Discard::kToTrash);
  ASSERT_OK(bytes);
  EXPECT_EQ(*bytes, std::optional<std::uint64_t>(4096));
}

TEST_F(LimitsTest, HintsOfObjectsThatAreGoneAreDropped) {
  make({10});
  for (int i = 0; i < 300; ++i) {
    opened_.index->add_chunk(sha256(std::to_string(i)), {ids_[0], 100, ""}, 0);
  }
  Cleaner cleaner(layout_, *opened_.index, {}, discard());
  StoreStats stats;
  ASSERT_OK(opened_.index->stats(stats));
  EXPECT_EQ(stats.chunks, 300u);
  ASSERT_OK(cleaner.collect(Store::Extent::kUnowned, 1'000));
  ASSERT_OK(opened_.index->stats(stats));
  EXPECT_EQ(stats.chunks, 0u);
}

// --- a full disk

// A small file system in memory.
class SmallDisk {
 public:
  SmallDisk(fs::path at, const char* options) : at_(std::move(at)) {
    fs::create_directories(at_);
    mounted_ = ::mount("none", at_.c_str(), "tmpfs", 0, options) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(at_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }

 private:
  const fs::path at_;
  bool mounted_ = false;
};

class FullDiskTest : public ::testing::Test {
 protected:
  // The second image has room only when the first gives way. Without the cleaner it has none.
  void expect_room_is_made(const char* options, const test::MadeImage& first,
                           const test::MadeImage& second) {
    const SmallDisk disk(dir_.path() / "disk", options);
    if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount";
    auto store = open_store(dir_.path() / "disk/store");
    ASSERT_OK(add(*store, first));
    put_all(*store, first);
    ASSERT_OK(store->remove_image(first.manifest->digest()));
    ASSERT_OK(add(*store, second));
    put_all(*store, second);
    EXPECT_OK(store->mark_resident(*second.manifest));
    const auto stats = store->stats();
    ASSERT_OK(stats);
    EXPECT_LT(stats->unowned_objects, first.files.size()) << "nothing had to give way";
    store.reset();
  }

  // An image of 6 MB, all of which is in the store.
  static test::MadeImage make_resident(Store& store, unsigned seed) {
    auto image = test::ImageMaker().file("a", test::random_bytes(6'000'000, seed)).make();
    EXPECT_OK(add(store, image));
    put_all(store, image);
    EXPECT_OK(store.mark_resident(*image.manifest));
    return image;
  }

  TempDir dir_;
};

TEST_F(FullDiskTest, RoomIsMadeAndNothingFails) {
  test::ImageMaker first;
  test::ImageMaker second;
  for (unsigned i = 0; i < 12; ++i) {
    first.file(std::to_string(i), test::random_bytes(500'000, i));
    second.file(std::to_string(i), test::random_bytes(500'000, 100 + i));
  }
  expect_room_is_made("size=10m,mode=0700", first.make(), second.make());
}

TEST_F(FullDiskTest, RoomIsMadeWhenThereAreNoInodesLeft) {
  test::ImageMaker first;
  test::ImageMaker second;
  for (unsigned i = 0; i < 60; ++i) {
    first.file(std::to_string(i), test::random_bytes(1'000, i));
    second.file(std::to_string(i), test::random_bytes(1'000, 100 + i));
  }
  expect_room_is_made("size=100m,nr_inodes=300,mode=0700", first.make(), second.make());
}

TEST_F(FullDiskTest, AnImageIsShrunkForTheNextOne) {
  const SmallDisk disk(dir_.path() / "disk", "size=10m,mode=0700");
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount";
  auto store = open_store(dir_.path() / "disk/store");
  const auto first = make_resident(*store, 1);
  const auto second = make_resident(*store, 2);
  EXPECT_TRUE(*store->is_shrunk(first.manifest->digest()));
  EXPECT_FALSE(*store->is_shrunk(second.manifest->digest()));
  store.reset();
}

TEST_F(FullDiskTest, WhatIsReadOfAShrunkImageShrinksNoOther) {
  const SmallDisk disk(dir_.path() / "disk", "size=10m,mode=0700");
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount";
  auto store = open_store(dir_.path() / "disk/store");
  const auto first = make_resident(*store, 1);
  const auto second = make_resident(*store, 2);
  const std::uint32_t number = first.object("a");
  auto object = store->open_object(*first.manifest, number, "");
  ASSERT_OK(object);
  Status put;
  for (std::uint32_t i = 0; put && i < first.manifest->objects().chunk_count(number); ++i) {
    put = store->put_chunk(**object, i, chunk_bytes(first, "a", i));
  }
  EXPECT_EQ(code_of(put), Errc::kNoSpace);
  EXPECT_TRUE(*store->is_resident(second.manifest->digest()));
  object->reset();
  store.reset();
}

TEST_F(FullDiskTest, PartOfTheFloorIsLeftToOthers) {
  const SmallDisk disk(dir_.path() / "disk", "size=20m,mode=0700");
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount";
  auto store = open_store(dir_.path() / "disk/store", {.free_floor_percent = 80});
  const auto image = test::ImageMaker().file("a", test::random_bytes(19'000'000, 1)).make();
  ASSERT_OK(add(*store, image));
  const std::uint32_t number = image.object("a");
  auto object = store->open_object(*image.manifest, number, "");
  ASSERT_OK(object);
  Status put;
  for (std::uint32_t i = 0; put && i < image.manifest->objects().chunk_count(number); ++i) {
    put = store->put_chunk(**object, i, chunk_bytes(image, "a", i));
  }
  EXPECT_EQ(code_of(put), Errc::kNoSpace);
  EXPECT_EQ(code_of(store->try_room(1'000'000)), Errc::kNoSpace);
  const auto space = fs::space(dir_.path() / "disk");
  EXPECT_GT(space.available, 3'000'000u) << "a quarter of the floor";
  EXPECT_LT(space.available, 5'000'000u);
  const auto other = test::ImageMaker().file("b", "small").make();
  EXPECT_OK(add(*store, other));  // promises may use what is left
  object->reset();
  store.reset();
}

// --- beside pulls and reads

TEST_F(CleanerTest, CollectsBesidePullsReadsAndRemovals) {
  constexpr unsigned kImages = 6;
  std::vector<test::MadeImage> images;
  for (unsigned i = 0; i < kImages; ++i) {
    test::ImageMaker maker;
    // Each has files of its own, and shares others with its neighbours.
    for (unsigned f = 0; f < 20; ++f) {
      maker.file(std::to_string(f), test::random_bytes(3'000, i * 10 + f));
    }
    images.push_back(maker.file("large", test::random_bytes(300'000, 1000 + i % 2)).make());
  }
  std::atomic<bool> over{false};
  std::thread cleaner([&] {
    while (!over) ASSERT_OK(store_->collect());
  });
  std::vector<std::thread> pulls;
  for (unsigned t = 0; t < 3; ++t) {
    pulls.emplace_back([&, t] {
      for (unsigned round = 0; round < 12; ++round) {
        const test::MadeImage& image = images[2 * t + round % 2];
        bring(image);
        ASSERT_OK(store_->mark_resident(*image.manifest));
        expect_content(image);
        if (round % 3 != 0) remove(image);
      }
    });
  }
  for (auto& pull : pulls) pull.join();
  over = true;
  cleaner.join();
  const auto stats = store_->stats();
  ASSERT_OK(stats);
  for (const test::MadeImage& image : images) {
    const bool owned = std::ranges::any_of(stats->images, [&](const auto& other) {
      return other.manifest == image.manifest->digest();
    });
    if (owned) expect_content(image);
  }
  for (const test::MadeImage& image : images) remove(image);
  collect();
  EXPECT_EQ(store_->stats()->objects, 0u);
  EXPECT_EQ(store_->stats()->partial_objects, 0u);
}

}  // namespace
}  // namespace imsy::cas
