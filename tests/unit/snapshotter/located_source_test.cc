#include "snapshotter/located_source.h"

#include <gtest/gtest.h>

#include <optional>

namespace imsy::snapshotter {
namespace {

// Answers reads when the test says so.
class ManualSource : public cas::BlobSource {
 public:
  void read(const cas::BlobRange&, Done done) override { reads.push_back(std::move(done)); }
  void answer(Result<Bytes> result) {
    const Done done = std::move(reads.front());
    reads.erase(reads.begin());
    done(std::move(result));
  }
  std::vector<Done> reads;
};

class LocatedSourceTest : public ::testing::Test {
 protected:
  std::shared_ptr<LocatedSource> make(std::shared_ptr<cas::BlobSource> source) {
    return std::make_shared<LocatedSource>(std::move(source), [this](auto located) {
      ++locations;
      answer_location = std::move(located);
    });
  }
  // Starts a read; what it ended with stands in `results` at the index returned.
  std::size_t read(LocatedSource& source) {
    const std::size_t index = results.size();
    results.emplace_back();
    source.read({sha256("blob"), 100, 0, 10},
                [this, index](Result<Bytes> result) { results[index] = std::move(result); });
    return index;
  }
  Errc code(std::size_t index) {
    EXPECT_TRUE(results[index]);
    return results[index]->error().code();
  }

  const Bytes content_ = Bytes(10, std::byte{7});
  std::vector<std::optional<Result<Bytes>>> results;
  int locations = 0;
  LocatedSource::Located answer_location;
};

TEST_F(LocatedSourceTest, AsksTheKnownPlaceWithoutLocating) {
  const auto inner = std::make_shared<ManualSource>();
  const auto source = make(inner);
  const auto index = read(*source);
  inner->answer(content_);
  EXPECT_EQ(**results[index], content_);
  EXPECT_EQ(locations, 0);
}

TEST_F(LocatedSourceTest, ReadsWaitForTheFirstLocation) {
  const auto source = make(nullptr);
  const auto one = read(*source);
  const auto two = read(*source);
  EXPECT_FALSE(results[one]);
  EXPECT_EQ(locations, 1) << "once for all who wait";
  const auto found = std::make_shared<ManualSource>();
  answer_location(std::shared_ptr<cas::BlobSource>(found));
  ASSERT_EQ(found->reads.size(), 2U);
  found->answer(content_);
  found->answer(content_);
  EXPECT_EQ(**results[one], content_);
  EXPECT_EQ(**results[two], content_);
  const auto three = read(*source);
  ASSERT_EQ(found->reads.size(), 1U);
  found->answer(content_);
  EXPECT_EQ(**results[three], content_);
}

TEST_F(LocatedSourceTest, ARefusalMakesTheImageLocatedAnewOnce) {
  for (const Errc refusal : {Errc::kNotFound, Errc::kDenied, Errc::kUnavailable, Errc::kTimeout}) {
    locations = 0;
    const auto old = std::make_shared<ManualSource>();
    const auto source = make(old);
    auto index = read(*source);
    old->answer(Error(refusal, "gone"));
    EXPECT_FALSE(results[index]);
    const auto found = std::make_shared<ManualSource>();
    answer_location(std::shared_ptr<cas::BlobSource>(found));
    // The new place refuses too: that is the answer, and nobody asks around in circles.
    found->answer(Error(refusal, "gone"));
    EXPECT_EQ(code(index), refusal);
    index = read(*source);
    found->answer(Error(refusal, "gone"));
    EXPECT_EQ(code(index), refusal);
    EXPECT_EQ(locations, 1);
  }
}

TEST_F(LocatedSourceTest, WrongBytesAreTheCallersBusiness) {
  const auto inner = std::make_shared<ManualSource>();
  const auto source = make(inner);
  const auto index = read(*source);
  inner->answer(Error(Errc::kCorrupt, "bad"));
  EXPECT_EQ(code(index), Errc::kCorrupt);
  EXPECT_EQ(locations, 0);
}

TEST_F(LocatedSourceTest, AFailedLocationIsTheAnswerAndKeepsTheOldPlace) {
  const auto old = std::make_shared<ManualSource>();
  const auto source = make(old);
  auto index = read(*source);
  old->answer(Error(Errc::kUnavailable, "down"));
  answer_location(Error(Errc::kUnavailable, "nowhere"));
  EXPECT_EQ(code(index), Errc::kUnavailable);
  index = read(*source);
  old->answer(content_);
  EXPECT_TRUE(results[index]->has_value());
}

TEST_F(LocatedSourceTest, ClosingEndsWaitingAndLaterReads) {
  const auto source = make(nullptr);
  const auto waiting = read(*source);
  source->close();
  EXPECT_EQ(code(waiting), Errc::kCancelled);
  EXPECT_EQ(code(read(*source)), Errc::kCancelled);
  EXPECT_EQ(locations, 1);
  answer_location(std::shared_ptr<cas::BlobSource>(std::make_shared<ManualSource>()));
  EXPECT_EQ(code(read(*source)), Errc::kCancelled) << "a late answer opens nothing";
}

TEST_F(LocatedSourceTest, WhatIsUnderWayWhenItClosesIsAnswered) {
  const auto inner = std::make_shared<ManualSource>();
  const auto source = make(inner);
  const auto good = read(*source);
  const auto bad = read(*source);
  source->close();
  inner->answer(content_);
  inner->answer(Error(Errc::kNotFound, "gone"));
  EXPECT_TRUE(results[good]->has_value());
  EXPECT_EQ(code(bad), Errc::kCancelled);
}

TEST_F(LocatedSourceTest, DestroyingItAnswersWhoWaits) {
  auto source = make(nullptr);
  const auto waiting = read(*source);
  source.reset();
  EXPECT_EQ(code(waiting), Errc::kCancelled);
  answer_location(Error(Errc::kUnavailable, "too late"));
}

}  // namespace
}  // namespace imsy::snapshotter
