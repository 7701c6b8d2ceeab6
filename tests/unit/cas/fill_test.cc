// The background fill of the fetcher.
#include <cerrno>
#include <thread>

#include "common/io.h"
#include "tests/unit/cas/fetcher_fixture.h"

namespace imsy::cas {
namespace {

const test::MadeImage& fillable() {
  static const test::MadeImage image = [] {
    test::ImageMaker maker;
    for (unsigned i = 0; i < 40; ++i) {
      maker.file("small/" + std::to_string(i), test::random_bytes(3'000 + i, i));
    }
    return maker.file("empty", "")
        .file("large", test::random_bytes(2'000'000, 100))
        .file("last", test::random_bytes(9'000, 101))
        .make();
  }();
  return image;
}

const test::MadeImage& next_fillable() {
  static const test::MadeImage image = [] {
    test::ImageMaker maker;
    for (unsigned i = 0; i < 40; ++i) {
      maker.file("small/" + std::to_string(i), test::random_bytes(3'000 + i, i));
    }
    Bytes large = fillable().files.at("large");
    std::fill_n(large.begin() + 900'000, 50, std::byte{1});
    return maker.file("large", large).file("new", test::random_bytes(9'000, 102)).make();
  }();
  return image;
}

class FillTest : public FetcherTest {
 protected:
  bool is_resident(const test::MadeImage& made) {
    const auto resident = store_->is_resident(made.manifest->digest());
    EXPECT_OK(resident);
    return resident && *resident;
  }
};

TEST_F(FillTest, MakesAnImageResident) {
  source_->add(fillable().blobs);
  const auto image = attach(fillable());
  ASSERT_OK(fill(*image).get());
  EXPECT_TRUE(is_resident(fillable()));
  EXPECT_EQ(source_->bytes(), fillable().stored_size()) << "the whole blob, once";
  const std::uint64_t before = source_->requests();
  expect_content(*image, fillable());
  EXPECT_EQ(source_->requests(), before);
}

TEST_F(FillTest, AsksInLargeRanges) {
  source_->add(fillable().blobs);
  const auto image = attach(fillable());
  ASSERT_OK(fill(*image).get());
  EXPECT_EQ(source_->requests(), 1u);
}

TEST_F(FillTest, IsIdempotent) {
  source_->add(fillable().blobs);
  const auto image = attach(fillable());
  auto first = fill(*image);
  auto second = fill(*image);
  EXPECT_OK(first.get());
  EXPECT_OK(second.get());
  EXPECT_OK(fill(*image).get());
  EXPECT_EQ(source_->bytes(), fillable().stored_size()) << "the whole blob, once";
}

TEST_F(FillTest, AResidentImageNeedsNoSourceAfterARestart) {
  source_->add(fillable().blobs);
  {
    const auto image = attach(fillable());
    ASSERT_OK(fill(*image).get());
  }
  reopen();
  const auto image = fetcher_->attach(fillable().manifest, fillable().anchor, {}, "");
  ASSERT_OK(fill(*image).get());
  for (const auto& [path, content] : fillable().files) {
    Reading reading = start(*image, fillable(), path);
    EXPECT_TRUE(reading.is_over()) << path;
    EXPECT_TRUE(reading.get().value() == content) << path;
  }
}

TEST_F(FillTest, GoesOnWhereACrashCutItOff) {
  source_->add(fillable().blobs);
  {
    const auto image = attach(fillable());
    ASSERT_OK(read(*image, fillable(), "large"));
  }
  const std::uint64_t before = source_->bytes();
  ASSERT_GT(before, 1'900'000u);
  reopen();
  const auto image = attach(fillable());
  ASSERT_OK(fill(*image).get());
  EXPECT_LE(source_->bytes(), frame_bytes(fillable()));
  EXPECT_TRUE(is_resident(fillable()));
}

TEST_F(FillTest, AnUpgradeFetchesOnlyWhatIsNew) {
  source_->add(fillable().blobs);
  source_->add(next_fillable().blobs);
  const auto first = attach(fillable());
  ASSERT_OK(fill(*first).get());
  const std::uint64_t before = source_->bytes();
  const auto second = attach(next_fillable());
  ASSERT_OK(fill(*second).get());
  EXPECT_TRUE(is_resident(next_fillable()));
  // The frame with the change and the one with the new file.
  EXPECT_LT(source_->bytes() - before, 900'000u);
  EXPECT_GT(second->stats().chunks_copied, 10u);
  expect_content(*second, next_fillable());
}

TEST_F(FillTest, TheSameContentInAnotherImageIsNotFetched) {
  test::ImageMaker maker;
  for (const auto& [path, content] : fillable().files) maker.file("moved/" + path, content);
  const auto moved = maker.make();
  source_->add(fillable().blobs);
  const auto first = attach(fillable());
  ASSERT_OK(fill(*first).get());
  const std::uint64_t before = source_->requests();
  const auto second = attach(moved);
  ASSERT_OK(fill(*second).get());
  EXPECT_TRUE(is_resident(moved));
  EXPECT_EQ(source_->requests(), before);
}

TEST_F(FillTest, TwoImagesThatFillTogetherFetchEachChunkOnce) {
  test::ImageMaker maker;
  for (const auto& [path, content] : fillable().files) maker.file(path, content);
  const auto twin = maker.file("zzz", "differs").make();
  source_->add(fillable().blobs);
  source_->add(twin.blobs);
  source_->hold();
  const auto first = attach(fillable());
  const auto second = attach(twin);
  auto one = fill(*first);
  source_->wait_until_held(1);
  auto two = fill(*second);
  source_->release_all();
  ASSERT_OK(one.get());
  ASSERT_OK(two.get());
  // All of one, and of the other at most the frame that differs.
  EXPECT_LT(source_->bytes(), frame_bytes(fillable()) + 300'000);
}

TEST_F(FillTest, ReadersDoNotQueueBehindIt) {
  options_.background_requests = 1;
  options_.plan.fill_run = 300'000;
  reopen();
  source_->add(fillable().blobs);
  source_->hold();
  const auto image = attach(fillable());
  auto filled = fill(*image);
  source_->wait_until_held(1);
  Reading reading = start(*image, fillable(), "last");
  source_->wait_until_held(2);
  source_->release_all();
  EXPECT_OK(reading.get());
  EXPECT_OK(filled.get());
}

TEST_F(FillTest, ReadersJoinIt) {
  source_->add(fillable().blobs);
  source_->hold();
  const auto image = attach(fillable());
  auto filled = fill(*image);
  source_->wait_until_held(1);
  Reading reading = start(*image, fillable(), "last");
  source_->release_all();
  EXPECT_OK(reading.get());
  EXPECT_OK(filled.get());
  EXPECT_EQ(source_->requests(), 1u);
}

TEST_F(FillTest, JoinsReaders) {
  source_->add(fillable().blobs);
  source_->hold();
  const auto image = attach(fillable());
  Reading reading = start(*image, fillable(), "large");
  source_->wait_until_held(1);
  auto filled = fill(*image);
  source_->release_all();
  EXPECT_OK(reading.get());
  EXPECT_OK(filled.get());
  EXPECT_EQ(source_->bytes(), frame_bytes(fillable()));
}

TEST_F(FillTest, AReaderWhoseChunkTheFillLosesGoesOn) {
  source_->add(fillable().blobs);
  source_->hold();
  source_->fail_with(1, Error(Errc::kInvalid, "nonsense"));
  const auto image = attach(fillable());
  auto filled = fill(*image);
  source_->wait_until_held(1);
  Reading reading = start(*image, fillable(), "last");
  source_->release_all();
  EXPECT_OK(reading.get());
  EXPECT_OK(filled.get());
}

TEST_F(FillTest, TriesAgainUntilTheSourceWorks) {
  source_->add(fillable().blobs);
  source_->fail_with(5, Error(Errc::kUnavailable, "away"));
  const auto image = attach(fillable());
  EXPECT_OK(fill(*image).get());
  EXPECT_TRUE(is_resident(fillable()));
}

TEST_F(FillTest, TriesAgainAlsoWhenTheSourceRefuses) {
  source_->add(fillable().blobs);
  source_->fail_with(3, Error(Errc::kDenied, "credentials"));
  const auto image = attach(fillable());
  EXPECT_OK(fill(*image).get());
}

TEST_F(FillTest, StartsWhenASourceComes) {
  source_->add(fillable().blobs);
  ASSERT_OK(add(*store_, fillable()));
  std::atomic<int> times{0};
  const auto image =
      fetcher_->attach(fillable().manifest, fillable().anchor, {}, "", [&](const Located& located) {
        located(times++ < 3 ? Result<Places>(Error(Errc::kUnavailable, "not yet"))
                            : Places{source_});
      });
  EXPECT_OK(fill(*image).get());
}

TEST_F(FillTest, FetchesWrongBytesAgain) {
  source_->add(fillable().blobs);
  source_->flip(fillable().anchor.data_layers[0].blob, place_in_blob(fillable(), "last"), 2);
  const auto image = attach(fillable());
  EXPECT_OK(fill(*image).get());
  EXPECT_TRUE(is_resident(fillable()));
  expect_content(*image, fillable());
}

TEST_F(FillTest, OneBadChunkDoesNotKeepTheRestAway) {
  source_->add(fillable().blobs);
  source_->flip(fillable().anchor.data_layers[0].blob, place_in_blob(fillable(), "last"), -1);
  auto image = attach(fillable());
  auto filled = fill(*image);
  while (!start(*image, fillable(), "large").is_over()) std::this_thread::yield();
  EXPECT_FALSE(is_resident(fillable()));
  image.reset();
  EXPECT_EQ(code_of(filled.get()), Errc::kCancelled);
}

TEST_F(FillTest, WaitsForRoom) {
  source_->add(fillable().blobs);
  const auto image = attach(fillable());
  faulty_->fail_put(Error(Errc::kNoSpace, "full"));
  auto filled = fill(*image);
  while (faulty_->failed() < 3) std::this_thread::yield();
  EXPECT_FALSE(is_resident(fillable()));
  faulty_->fail_put(std::nullopt);
  EXPECT_OK(filled.get());
  EXPECT_TRUE(is_resident(fillable()));
}

TEST_F(FillTest, FetchesNothingWhileThereIsNoRoom) {
  source_->add(fillable().blobs);
  const auto image = attach(fillable());
  faulty_->fail_put(Error(Errc::kNoSpace, "full"));
  auto filled = fill(*image);
  while (faulty_->without_room() < 5 && source_->requests() < 2) std::this_thread::yield();
  EXPECT_EQ(source_->requests(), 1u) << "the one that found the disk full";
  faulty_->fail_put(std::nullopt);
  EXPECT_OK(filled.get());
  EXPECT_EQ(source_->requests(), 2u);
}

TEST_F(FillTest, WaitsForTheAcknowledgement) {
  source_->add(fillable().blobs);
  const auto image = attach(fillable());
  faulty_->fail_resident(Error(Errc::kNoSpace, "full"));
  auto filled = fill(*image);
  while (faulty_->failed() < 2) std::this_thread::yield();
  faulty_->fail_resident(std::nullopt);
  EXPECT_OK(filled.get());
}

TEST_F(FillTest, CanBeDoneAgainWhenContentWasLost) {
  source_->add(fillable().blobs);
  const auto image = attach(fillable());
  ASSERT_OK(fill(*image).get());
  const auto path = object_path(dir_.path() / "store", "objects",
                                fillable().manifest->objects().id(fillable().object("large")));
  std::filesystem::resize_file(path, 500'000);
  ASSERT_OK(start(*image, fillable().object("large"), 1'999'000, 1'000).get());
  EXPECT_FALSE(is_resident(fillable()));
  ASSERT_OK(fill(*image).get());
  EXPECT_TRUE(is_resident(fillable()));
  EXPECT_EQ(*read_file(path, 3'000'000), fillable().files.at("large"));
}

TEST_F(FillTest, WaitsForDescriptors) {
  source_->add(fillable().blobs);
  const auto image = attach(fillable());
  faulty_->fail_open(Error::from_errno(EMFILE, "open"));
  auto filled = fill(*image);
  while (faulty_->failed() < 3) std::this_thread::yield();
  faulty_->fail_open(std::nullopt);
  EXPECT_OK(filled.get());
}

TEST_F(FillTest, ReadersAndFillsOfManyImagesGetRightBytesOnce) {
  std::vector<test::MadeImage> made;
  for (unsigned i = 0; i < 4; ++i) {
    test::ImageMaker maker;
    for (const auto& [path, content] : fillable().files) maker.file(path, content);
    made.push_back(maker.file("own", test::random_bytes(50'000, 1000 + i)).make());
    source_->add(made.back().blobs);
  }
  std::vector<std::shared_ptr<Image>> images;
  for (const auto& one : made) images.push_back(attach(one));
  std::vector<std::future<Status>> fills;
  for (const auto& image : images) fills.push_back(fill(*image));
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] { expect_content(*images[t % 4], made[t % 4]); });
  }
  for (auto& thread : threads) thread.join();
  for (auto& filled : fills) EXPECT_OK(filled.get());
  for (const auto& one : made) EXPECT_TRUE(is_resident(one));
}

}  // namespace
}  // namespace imsy::cas
