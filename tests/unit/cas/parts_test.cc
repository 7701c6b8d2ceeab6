// The small parts of the store and the fetcher.
#include <fcntl.h>
#include <sys/stat.h>

#include <latch>
#include <thread>

#include "cas/image_file.h"
#include "cas/in_flight.h"
#include "cas/layout.h"
#include "cas/object_cache.h"
#include "cas/planner.h"
#include "cas/sqlite.h"
#include "cas/work_queue.h"
#include "tests/unit/cas/fixture.h"

namespace imsy::cas {
namespace {

// --- ImageFile

TEST(ImageFileTest, GivesBackWhatWasWritten) {
  const Bytes manifest = test::random_bytes(100, 1);
  const auto file = write_image_file({"anchor text", "registry/alice", manifest});
  ASSERT_OK(file);
  const auto image = read_image_file(*file);
  ASSERT_OK(image);
  EXPECT_EQ(image->anchor_text, "anchor text");
  EXPECT_EQ(image->trust_domain, "registry/alice");
  EXPECT_TRUE(std::ranges::equal(image->manifest, manifest));
}

TEST(ImageFileTest, RefusesADamagedHeader) {
  const auto file = write_image_file({"anchor text", "domain", {}});
  ASSERT_OK(file);
  for (std::size_t i = 0; i < file->size(); ++i) {
    Bytes damaged = *file;
    damaged[i] ^= std::byte{0x10};
    EXPECT_EQ(code_of(read_image_file(damaged)), Errc::kCorrupt) << i;
  }
  for (std::size_t size = 0; size < file->size(); ++size) {
    EXPECT_EQ(code_of(read_image_file(ByteSpan(*file).first(size))), Errc::kCorrupt) << size;
  }
}

TEST(ImageFileTest, RefusesTextsBeyondTheirLimits) {
  EXPECT_EQ(code_of(write_image_file({std::string(cdc::kAnchorTextLimit + 1, 'a'), "", {}})),
            Errc::kInvalid);
  EXPECT_EQ(code_of(write_image_file({"", std::string(kTrustDomainLimit + 1, 'a'), {}})),
            Errc::kInvalid);
}

// --- Database

TEST(SqliteTest, ReportsWhatIsNoDatabase) {
  TempDir dir;
  const auto path = dir.path() / "db";
  ASSERT_OK(replace_file(path, test::random_bytes(5000, 1)));
  auto database = Database::open(path, Database::Mode::kCreate);
  ASSERT_OK(database);
  EXPECT_EQ(code_of(database->run("CREATE TABLE t(a)")), Errc::kCorrupt);
}

TEST(SqliteTest, RefusesASymlink) {
  TempDir dir;
  std::filesystem::create_symlink(dir.path() / "elsewhere", dir.path() / "db");
  EXPECT_FALSE(Database::open(dir.path() / "db", Database::Mode::kCreate));
  EXPECT_FALSE(std::filesystem::exists(dir.path() / "elsewhere"));
}

TEST(SqliteTest, OpensPathsWithCharactersThatMeanSomethingInUris) {
  TempDir dir;
  const auto path = dir.path() / "a%20b?c#d";
  ASSERT_OK(Database::open(path, Database::Mode::kCreate)->run("CREATE TABLE t(a)"));
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST(SqliteTest, RollsBackWhatWasNotCommitted) {
  TempDir dir;
  auto database = Database::open(dir.path() / "db", Database::Mode::kCreate);
  ASSERT_OK(database);
  ASSERT_OK(database->run("CREATE TABLE t(a)"));
  for (const bool commit : {false, true}) {
    auto transaction = Transaction::begin(*database);
    ASSERT_OK(transaction);
    ASSERT_OK(database->run("INSERT INTO t VALUES(1)"));
    if (commit) ASSERT_OK(transaction->commit());
  }
  auto count = database->prepare("SELECT COUNT(*) FROM t");
  ASSERT_OK(count);
  EXPECT_EQ(*count->run_for_integer(), 1);
}

// --- Layout

TEST(LayoutTest, SetsAtMostFiveIndexesAside) {
  TempDir dir;
  const auto layout = Layout::open(dir.path() / "store", /*lock=*/true);
  ASSERT_OK(layout);
  EXPECT_EQ(layout->set_index_aside().value(), "");
  for (int i = 0; i < 8; ++i) {
    ASSERT_OK(replace_file(layout->index_path(), as_bytes(std::to_string(i))));
    ASSERT_OK(layout->set_index_aside());
  }
  int kept = 0;
  for (const auto& entry : std::filesystem::directory_iterator(layout->root())) {
    kept += entry.path().filename().string().starts_with("index.db") ? 1 : 0;
  }
  EXPECT_EQ(kept, 5);
}

TEST(LayoutTest, TriesWhetherThereIsRoomAndLeavesNothing) {
  TempDir dir;
  const auto layout = Layout::open(dir.path() / "store", true);
  ASSERT_OK(layout);
  EXPECT_OK(layout->try_room(100'000));
  EXPECT_FALSE(layout->try_room(std::uint64_t{1} << 60));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path() / "store/partial"));
}

TEST(LayoutTest, ListsOnlyRegularFilesWithNamesOfObjects) {
  TempDir dir;
  const auto layout = Layout::open(dir.path() / "store", /*lock=*/true);
  ASSERT_OK(layout);
  const cdc::ObjectId id = sha256("one");
  ASSERT_OK(layout->create_partial(id, 12'345, false));
  const auto folder = object_path(layout->root(), "partial", id).parent_path();
  ASSERT_OK(replace_file(folder / "stray", as_bytes("x")));
  std::filesystem::create_symlink("stray", folder / sha256("two").hex());
  std::vector<Layout::ObjectFile> found;
  ASSERT_OK(layout->each_object(Place::kPartial, [&](const auto& file) { found.push_back(file); }));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, id);
  EXPECT_EQ(found[0].size, 12'345u);
  EXPECT_EQ(found[0].allocated, 0u);
}

// --- plan_runs

class PlanTest : public ::testing::Test {
 protected:
  // Twenty frames of about 256 KiB, in two layers.
  static const cdc::Objects& objects() {
    static const auto image = [] {
      test::ImageMaker maker;
      for (unsigned i = 0; i < 20; ++i)
        maker.file(std::to_string(100 + i), test::random_bytes(250'000, i));
      return maker.layers(2).make();
    }();
    return image.manifest->objects();
  }
  static std::vector<std::pair<std::uint32_t, std::uint32_t>> plan(
      const std::vector<std::uint32_t>& frames, std::uint64_t gap, std::uint64_t span) {
    std::vector<std::pair<std::uint32_t, std::uint32_t>> runs;
    for (const FrameRun& run : plan_runs(objects(), frames, gap, span)) {
      runs.emplace_back(run.first, run.last);
    }
    return runs;
  }
  using Runs = std::vector<std::pair<std::uint32_t, std::uint32_t>>;
};

TEST_F(PlanTest, JoinsNeighbours) {
  EXPECT_EQ(plan({}, 0, 1u << 30), Runs());
  EXPECT_EQ(plan({1, 2, 3}, 0, 1u << 30), (Runs{{1, 3}}));
}

TEST_F(PlanTest, JoinsAcrossASmallGapOnly) {
  const std::uint64_t frame = objects().frame(2).stored_size;
  EXPECT_EQ(plan({1, 3}, frame, 1u << 30), (Runs{{1, 3}}));
  EXPECT_EQ(plan({1, 3}, frame - 1, 1u << 30), (Runs{{1, 1}, {3, 3}}));
}

TEST_F(PlanTest, KeepsItsSpan) {
  const std::uint64_t two = objects().frame(1).stored_size + objects().frame(2).stored_size;
  EXPECT_EQ(plan({1, 2, 3}, 0, two), (Runs{{1, 2}, {3, 3}}));
  EXPECT_EQ(plan({1, 2}, 0, 1), (Runs{{1, 1}, {2, 2}}));  // one frame always goes
}

TEST_F(PlanTest, DoesNotJoinAcrossLayers) {
  std::uint32_t last = 0;
  while (objects().frame(last + 1).layer == 0) ++last;
  EXPECT_EQ(plan({last, last + 1}, ~std::uint64_t{0}, ~std::uint64_t{0}),
            (Runs{{last, last}, {last + 1, last + 1}}));
}

// --- InFlight

class InFlightTest : public ::testing::Test {
 protected:
  using Image = std::shared_ptr<ImageState>;
  static Image make_image() {
    static const auto made = test::ImageMaker().file("a", "a").make();
    return std::make_shared<ImageState>(made.manifest, made.anchor, "", 0, Places(), nullptr,
                                        FetcherOptions());
  }
  Waiter waiter(const Image& image) {
    reads_.push_back(std::make_shared<PendingRead>());
    reads_.back()->image = image;
    return {reads_.back(), {image, 0}, 0, 0, 1};
  }
  // What take() gives until it is over.
  std::pair<std::size_t, std::size_t> take_all() {
    std::size_t targets = 0;
    for (;;) {
      const auto delivery = table_.take(key_);
      targets += delivery.targets.size();
      if (delivery.over) return {targets, delivery.waiters.size()};
    }
  }

  const Image a_ = make_image();
  const Image b_ = make_image();
  const WantKey key_ = a_->key(0);
  std::vector<std::shared_ptr<PendingRead>> reads_;
  InFlight table_;
};

TEST_F(InFlightTest, TheFirstStartsAndTheOthersJoin) {
  EXPECT_TRUE(table_.join(key_, waiter(a_)));
  EXPECT_FALSE(table_.join(key_, waiter(a_)));
  EXPECT_FALSE(table_.join(key_, waiter(b_)));
  EXPECT_EQ(take_all(), (std::pair<std::size_t, std::size_t>{2, 3}));
  EXPECT_EQ(table_.size(), 0u);
  EXPECT_TRUE(table_.join(key_, waiter(a_)));
}

TEST_F(InFlightTest, WhoJoinsACarriedChunkDoesNotStart) {
  table_.carry(key_, a_.get());
  EXPECT_FALSE(table_.is_wanted(key_));
  EXPECT_FALSE(table_.join(key_, waiter(b_)));
  EXPECT_TRUE(table_.is_awaited(key_));
}

TEST_F(InFlightTest, OneOfTwoCarriersMayLeaveItToTheOther) {
  EXPECT_FALSE(table_.leave_to_others(key_, a_.get()));
  EXPECT_TRUE(table_.join(key_, waiter(a_)));
  EXPECT_FALSE(table_.leave_to_others(key_, a_.get())) << "there is no other";
  table_.carry(key_, b_.get());
  EXPECT_TRUE(table_.leave_to_others(key_, a_.get()));
  EXPECT_FALSE(table_.leave_to_others(key_, b_.get()));
  const auto outcome = table_.give_up(key_, b_.get(), InFlight::Why::kFailed);
  ASSERT_EQ(outcome.restart.size(), 1u) << "who has left it is asked when the other fails";
  EXPECT_EQ(outcome.restart[0].image, a_);
}

TEST_F(InFlightTest, TargetsNeedACarrier) {
  EXPECT_FALSE(table_.add_target(key_, {a_, 0}));
  table_.carry(key_, b_.get());
  EXPECT_TRUE(table_.add_target(key_, {a_, 0}));
  EXPECT_TRUE(table_.is_wanted(key_));
  EXPECT_FALSE(table_.is_awaited(key_));
  EXPECT_EQ(take_all(), (std::pair<std::size_t, std::size_t>{1, 0}));
}

TEST_F(InFlightTest, LeavingKeepsTheOthers) {
  table_.join(key_, waiter(a_));
  table_.join(key_, waiter(a_));
  table_.leave(key_, reads_[0].get());
  EXPECT_TRUE(table_.is_awaited(key_));
  table_.leave(key_, reads_[1].get());
  EXPECT_FALSE(table_.is_awaited(key_));
}

TEST_F(InFlightTest, AFailureIsEverybodysOnlyWhenNobodyCanTakeOver) {
  table_.join(key_, waiter(a_));
  table_.join(key_, waiter(b_));
  auto outcome = table_.give_up(key_, a_.get(), InFlight::Why::kFailed);
  EXPECT_TRUE(outcome.failed.empty());
  ASSERT_EQ(outcome.restart.size(), 1u);
  EXPECT_EQ(outcome.restart[0].image, b_);
  outcome = table_.give_up(key_, b_.get(), InFlight::Why::kFailed);
  EXPECT_EQ(outcome.failed.size(), 2u);
  EXPECT_TRUE(outcome.restart.empty());
  EXPECT_EQ(table_.size(), 0u);
}

TEST_F(InFlightTest, WhoTriesOnLetsOthersTryBesideIt) {
  table_.join(key_, waiter(a_));
  table_.join(key_, waiter(b_));
  auto outcome = table_.give_up(key_, a_.get(), InFlight::Why::kTrying);
  ASSERT_EQ(outcome.restart.size(), 1u);
  EXPECT_EQ(outcome.restart[0].image, b_);
  EXPECT_TRUE(table_.give_up(key_, a_.get(), InFlight::Why::kTrying).restart.empty());
  outcome = table_.give_up(key_, b_.get(), InFlight::Why::kFailed);
  EXPECT_TRUE(outcome.failed.empty());  // a still tries
}

TEST_F(InFlightTest, WhoStillWaitsWhenARequestIsOverAsksAgain) {
  table_.carry(key_, a_.get());
  table_.join(key_, waiter(a_));
  const auto outcome = table_.give_up(key_, a_.get(), InFlight::Why::kDone);
  EXPECT_TRUE(outcome.failed.empty());
  ASSERT_EQ(outcome.restart.size(), 1u);
  EXPECT_EQ(outcome.restart[0].image, a_);
}

TEST_F(InFlightTest, WhatIsForOneImageOnlyLeavesTheOthersToAskThemselves) {
  table_.join(key_, waiter(a_));
  table_.join(key_, waiter(b_));
  auto delivery = table_.take(key_, a_.get());
  ASSERT_EQ(delivery.targets.size(), 1u);
  EXPECT_EQ(delivery.targets[0].image, a_);
  delivery = table_.take(key_, a_.get());
  EXPECT_TRUE(delivery.over);
  EXPECT_EQ(delivery.waiters.size(), 1u);
  EXPECT_TRUE(table_.is_awaited(key_));
  const auto outcome = table_.give_up(key_, a_.get(), InFlight::Why::kDone);
  ASSERT_EQ(outcome.restart.size(), 1u);
  EXPECT_EQ(outcome.restart[0].image, b_);
}

TEST_F(InFlightTest, AChunkThatNobodyWantsIsForgotten) {
  table_.carry(key_, a_.get());
  table_.give_up(key_, a_.get(), InFlight::Why::kDone);
  EXPECT_EQ(table_.size(), 0u);
}

// --- WorkQueue

TEST(WorkQueueTest, DoesUrgentWorkFirst) {
  WorkQueue queue(1);
  std::latch started(1);
  std::latch go(1);
  std::latch done(3);
  std::string order;  // one thread writes it
  queue.submit(Urgency::kDemand, [&] {
    started.count_down();
    go.wait();
  });
  started.wait();
  for (const auto& [urgency, name] :
       {std::pair{Urgency::kBackground, 'b'}, std::pair{Urgency::kDemand, 'd'},
        std::pair{Urgency::kDemand, 'e'}}) {
    queue.submit(urgency, [&, letter = name] {
      order += letter;
      done.count_down();
    });
  }
  go.count_down();
  done.wait();
  EXPECT_EQ(order, "deb");
}

TEST(WorkQueueTest, RunsTimedTasksInTheirOrderUnlessForgotten) {
  WorkQueue queue(1);
  std::latch done(2);
  std::string order;  // the clock's thread writes it
  const auto now = WorkQueue::Clock::now();
  const auto later = queue.at(now + std::chrono::hours(1), [&] { order += 'x'; });
  queue.at(now + std::chrono::milliseconds(2), [&] {
    order += '2';
    done.count_down();
  });
  queue.at(now + std::chrono::milliseconds(1), [&] {
    order += '1';
    done.count_down();
  });
  queue.forget(later);
  queue.forget(later);
  done.wait();
  EXPECT_EQ(order, "12");
}

TEST(WorkQueueTest, DropsWhatHasNotStarted) {
  std::latch started(1);
  std::latch go(1);
  bool ran = false;
  auto token = std::make_shared<int>();
  WorkQueue queue(1);
  queue.submit(Urgency::kDemand, [&] {
    started.count_down();
    go.wait();
  });
  started.wait();
  queue.submit(Urgency::kDemand, [&ran, token] { ran = true; });
  queue.at(WorkQueue::Clock::now() + std::chrono::hours(1), [&ran, token] { ran = true; });
  std::thread stopper([&] { queue.stop(); });
  while (token.use_count() > 1) std::this_thread::yield();  // dropped
  go.count_down();
  stopper.join();
  queue.submit(Urgency::kDemand, [&ran] { ran = true; });
  EXPECT_FALSE(ran);
}

// --- ObjectCache

TEST(ObjectCacheTest, ClosesWhatWasUsedLongestAgo) {
  test::ImageMaker maker;
  for (unsigned i = 0; i < 4; ++i) maker.file(std::to_string(i), test::random_bytes(100, i));
  const auto image = maker.make();
  TempDir dir(TempDir::On::kMemory);
  const auto store = open_store(dir.path() / "store");
  ObjectCache cache(*store, 2);
  const auto open = [&](std::uint32_t object) {
    auto opened = cache.open(*image.manifest, object, "");
    EXPECT_OK(opened);
    return std::weak_ptr<Object>(*opened);
  };
  const auto zero = open(0);
  const auto one = open(1);
  open(0);
  const auto two = open(2);
  EXPECT_FALSE(zero.expired());
  EXPECT_TRUE(one.expired());
  EXPECT_FALSE(two.expired());
  cache.clear();
  EXPECT_TRUE(zero.expired());
}

}  // namespace
}  // namespace imsy::cas
