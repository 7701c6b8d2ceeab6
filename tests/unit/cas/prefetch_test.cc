// What the background fetches, beside readers: the start-up profile, pre-emption, bounds.
#include <numeric>
#include <thread>

#include "tests/unit/cas/fetcher_fixture.h"

namespace imsy::cas {
namespace {

class BackgroundTest : public FetcherTest {
 protected:
  static std::vector<std::uint32_t> chunks_of(const std::vector<std::string>& paths) {
    std::vector<std::uint32_t> chunks;
    for (const std::string& path : paths) {
      chunks.push_back(many_frames().manifest->objects().first_chunk(many_frames().object(path)));
    }
    return chunks;
  }
  // A fill of many_frames() of which the first request is over; the second has to wait for hours.
  struct SlowFill {
    std::shared_ptr<Image> image;
    std::future<Status> filled;
  };
  SlowFill fill_slowly() {
    options_.background_rate = 1;
    options_.plan.fill_run = 3'000;
    reopen();
    source_->add(many_frames().blobs);
    SlowFill slow{attach(many_frames()), {}};
    slow.filled = fill(*slow.image);
    while (source_->bytes() < 3'000) std::this_thread::yield();
    return slow;
  }
  static void wait_until_present(Image& image, const std::string& path) {
    while (!start(image, many_frames(), path).is_over()) std::this_thread::yield();
  }
};

TEST_F(BackgroundTest, AStartUpProfileIsThereBeforeItIsRead) {
  source_->add(many_frames().blobs);
  const auto image = attach(many_frames());
  image->prefetch(chunks_of({"file12", "file10", "file11"}));
  while (source_->bytes() == 0) std::this_thread::yield();
  for (const char* path : {"file10", "file11", "file12"}) wait_until_present(*image, path);
  EXPECT_EQ(source_->requests(), 1u) << "neighbours share a request";
  EXPECT_EQ(source_->log().front().purpose, Purpose::kStartup);
  image->prefetch(chunks_of({"file11"}));
  ASSERT_OK(read(*image, many_frames(), "file20"));
  EXPECT_EQ(source_->requests(), 2u) << "what is there is not fetched";
}

TEST_F(BackgroundTest, AProfileThatFailsCostsReadersNothing) {
  source_->add(many_frames().blobs);
  source_->hold();
  source_->fail_with(1, Error(Errc::kNotFound, "no"));
  const auto image = attach(many_frames());
  image->prefetch(chunks_of({"file10", "file11"}));
  image->prefetch({0xffffffff, 1'000'000});
  source_->wait_until_held(1);
  Reading reading = start(*image, many_frames(), "file10");
  source_->release_all();
  EXPECT_OK(reading.get());
  expect_content(*image, many_frames());
}

TEST_F(BackgroundTest, AReaderDoesNotWaitForALongFill) {
  source_->add(many_frames().blobs);
  source_->set_cost({std::chrono::milliseconds(1), 10'000});
  source_->stall(4'000);  // of each answer: a reader's own is shorter
  const auto image = attach(many_frames());
  auto filled = fill(*image);
  while (source_->bytes() < 4'000) std::this_thread::yield();
  EXPECT_OK(read(*image, many_frames(), "file21"));
  EXPECT_GE(source_->cancelled(), 1u);
  source_->go_on();
  EXPECT_OK(filled.get());
  EXPECT_LT(source_->bytes(), frame_bytes(many_frames()) + 20'000) << "what has come is not lost";
}

TEST_F(BackgroundTest, AReaderDoesNotWaitForTheFillOfAnotherImage) {
  const SlowFill filling = fill_slowly();
  test::ImageMaker maker;
  maker.frame_target(3'000).file("more", "more");
  for (const auto& [path, content] : many_frames().files) maker.file(path, content);
  const auto other = maker.make();
  source_->add(other.blobs);
  expect_content(*attach(other), other);
}

TEST_F(BackgroundTest, AReaderDoesNotWaitForAFillThatWaits) {
  SlowFill filling = fill_slowly();
  expect_content(*filling.image, many_frames());
  EXPECT_OK(filling.filled.get());
}

TEST_F(BackgroundTest, BytesInFlightAreBoundedOverAllImages) {
  options_.in_flight_max = 20'000;
  options_.plan.demand_run = options_.plan.fill_run = 6'000;
  reopen();
  std::vector<test::MadeImage> made;
  std::vector<std::shared_ptr<Image>> images;
  for (unsigned i = 0; i < 8; ++i) {
    test::ImageMaker maker;
    maker.frame_target(3'000);
    for (unsigned f = 0; f < 12; ++f) {
      maker.file(std::to_string(f), test::random_bytes(3'000, 100 * i + f));
    }
    made.push_back(maker.make());
    source_->add(made.back().blobs);
    images.push_back(attach(made.back()));
  }
  source_->hold();
  std::vector<Reading> readings;
  std::vector<std::future<Status>> fills;
  for (unsigned i = 0; i < 8; ++i) {
    fills.push_back(fill(*images[i]));
    for (const auto& [path, content] : made[i].files) {
      readings.push_back(start(*images[i], made[i], path));
    }
  }
  const auto is_over = [](const Reading& reading) { return reading.is_over(); };
  std::uint64_t most = 0;
  while (!std::all_of(readings.begin(), readings.end(), is_over)) {
    const auto log = source_->log();
    const std::uint64_t asked = std::accumulate(
        log.begin(), log.end(), std::uint64_t{0},
        [](std::uint64_t sum, const BlobRange& range) { return sum + range.length; });
    const std::uint64_t given = source_->bytes();
    most = std::max(most, asked - std::min(asked, given));
    source_->release(1);
    std::this_thread::yield();
  }
  EXPECT_LE(most, options_.in_flight_max);
  source_->release_all();
  for (auto& reading : readings) EXPECT_OK(reading.get());
  for (auto& filled : fills) EXPECT_OK(filled.get());
}

}  // namespace
}  // namespace imsy::cas
