// Where a request goes, and when again, told the time.
#include "cas/sources.h"

#include <gtest/gtest.h>

namespace imsy::cas {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Move = Sources::Move;

class FakePlace final : public BlobSource {
 public:
  explicit FakePlace(std::string name) : name_(std::move(name)) {}
  const std::string& name() const override { return name_; }
  const std::string& host() const override { return name_; }
  Cost cost() const override { return {}; }
  Cancel read(const BlobRange&, std::shared_ptr<BlobReceiver>) override {
    ADD_FAILURE() << "nobody reads here";
    return [] {};
  }
  Time usable_at() const override { return usable; }
  void distrust(const Digest&) override {}
  Time usable = Time::min();

 private:
  const std::string name_;
};

class SourcesTest : public ::testing::Test {
 protected:
  Sources make(const std::vector<std::shared_ptr<FakePlace>>& places, bool can_locate = false) {
    return Sources(options_, Places(places.begin(), places.end()), can_locate);
  }
  Sources::Step next(Sources& sources, Sources::Attempt& attempt,
                     Urgency urgency = Urgency::kDemand) {
    return sources.next(attempt, blob_, urgency, now_);
  }
  // The name of the place to ask, or what else is to be done.
  std::string ask(Sources& sources, Sources::Attempt& attempt) {
    const auto step = next(sources, attempt);
    switch (step.move) {
      case Move::kAsk: return step.place->name();
      case Move::kWait: return "wait";
      case Move::kLocate: return "locate";
      case Move::kFail: return std::string("fail: ") + step.error->message();
    }
    return {};
  }
  void fail(Sources& sources, Sources::Attempt& attempt, Errc code) {
    sources.failed(attempt, blob_, Error(code, "no"), now_);
  }
  // Asks all places, of which none works; returns how many were asked.
  int suffer(Sources& sources, Sources::Attempt& attempt, Urgency urgency = Urgency::kDemand) {
    int asked = 0;
    while (next(sources, attempt, urgency).move == Move::kAsk) {
      ++asked;
      fail(sources, attempt, Errc::kUnavailable);
    }
    return asked;
  }

  const Digest blob_ = sha256("blob");
  FetcherOptions options_;
  Sources::Time now_{std::chrono::hours(1)};
  const std::shared_ptr<FakePlace> a_ = std::make_shared<FakePlace>("a");
  const std::shared_ptr<FakePlace> b_ = std::make_shared<FakePlace>("b");
};

TEST_F(SourcesTest, AsksInOrderAndEachOnce) {
  auto sources = make({a_, b_});
  Sources::Attempt attempt;
  EXPECT_EQ(ask(sources, attempt), "a");
  fail(sources, attempt, Errc::kNotFound);
  EXPECT_EQ(ask(sources, attempt), "b");
  fail(sources, attempt, Errc::kDenied);
  EXPECT_EQ(ask(sources, attempt), "fail: no");
}

TEST_F(SourcesTest, WhoRefusesABlobIsAskedForItLastForAMinute) {
  auto sources = make({a_, b_});
  Sources::Attempt first;
  EXPECT_EQ(ask(sources, first), "a");
  fail(sources, first, Errc::kNotFound);
  EXPECT_EQ(ask(sources, first), "b");
  Sources::Attempt second;
  EXPECT_EQ(ask(sources, second), "b");
  Sources::Attempt other;
  EXPECT_EQ(sources.next(other, sha256("other"), Urgency::kDemand, now_).place->name(), "a");
  now_ += seconds(61);
  Sources::Attempt third;
  EXPECT_EQ(ask(sources, third), "a");
}

TEST_F(SourcesTest, WhoGivesWrongBytesIsNotAskedForThemAgain) {
  auto sources = make({a_, b_});
  Sources::Attempt attempt;
  EXPECT_EQ(ask(sources, attempt), "a");
  sources.gave_wrong(attempt, "a", blob_, now_);
  EXPECT_EQ(ask(sources, attempt), "b");
  sources.gave_wrong(attempt, "b", blob_, now_);
  const auto step = next(sources, attempt);
  ASSERT_EQ(step.move, Move::kFail);
  EXPECT_EQ(step.error->code(), Errc::kCorrupt);
}

TEST_F(SourcesTest, TheOnlyPlaceIsAskedTwiceForWrongBytes) {
  auto sources = make({a_});
  Sources::Attempt attempt;
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(ask(sources, attempt), "a");
    sources.gave_wrong(attempt, "a", blob_, now_);
  }
  EXPECT_EQ(next(sources, attempt).move, Move::kFail);
}

TEST_F(SourcesTest, WrongBytesAreRepairedAfterAnOutageOfTheOthers) {
  auto sources = make({a_, b_});
  Sources::Attempt attempt;
  EXPECT_EQ(ask(sources, attempt), "a");
  sources.gave_wrong(attempt, "a", blob_, now_);
  EXPECT_EQ(ask(sources, attempt), "b");
  fail(sources, attempt, Errc::kTimeout);
  EXPECT_EQ(ask(sources, attempt), "wait");
  now_ += seconds(1);
  EXPECT_EQ(ask(sources, attempt), "b") << "and never the one that gave wrong bytes";
}

TEST_F(SourcesTest, WhoIsOfNoUseNowIsPassedOver) {
  auto sources = make({a_, b_});
  a_->usable = now_ + seconds(5);
  Sources::Attempt attempt;
  EXPECT_EQ(ask(sources, attempt), "b");
  fail(sources, attempt, Errc::kNotFound);
  const auto step = next(sources, attempt);
  EXPECT_EQ(step.move, Move::kWait);
  EXPECT_EQ(step.until, a_->usable);
  now_ = a_->usable;
  EXPECT_EQ(ask(sources, attempt), "a");
}

TEST_F(SourcesTest, AnOutageCostsTheSameHoweverManyWait) {
  auto sources = make({a_, b_});
  std::vector<Sources::Attempt> many(1000);
  const auto end = now_ + seconds(60);
  int asked = 0;
  for (; now_ < end; now_ += milliseconds(10)) {
    for (auto& attempt : many) asked += suffer(sources, attempt);
  }
  // 0.1 to 1.6 s, then every 2 s, of all of which half is random; two places each.
  EXPECT_GE(asked, 2 * 30);
  EXPECT_LE(asked, 2 * 70);
  now_ += seconds(2);
  EXPECT_EQ(ask(sources, many[0]), "a");
  EXPECT_EQ(ask(sources, many[1]), "wait") << "until the first has found out";
  EXPECT_TRUE(sources.succeeded(many[0]));
  EXPECT_EQ(ask(sources, many[1]), "a");
  EXPECT_FALSE(sources.succeeded(many[1]));
}

TEST_F(SourcesTest, TheBackgroundTriesLessOften) {
  auto sources = make({a_});
  Sources::Attempt attempt;
  const auto end = now_ + seconds(600);
  int asked = 0;
  for (; now_ < end; now_ += milliseconds(10)) {
    asked += suffer(sources, attempt, Urgency::kBackground);
  }
  EXPECT_GE(asked, 20);
  EXPECT_LE(asked, 55);
  now_ += seconds(2);  // a reader's longest pause, as if the background had asked just now
  Sources::Attempt reader;
  EXPECT_EQ(ask(sources, reader), "a") << "who comes then does not wait for the background";
}

TEST_F(SourcesTest, WhoGivesUpWhileFindingOutLeavesItToOthers) {
  auto sources = make({a_});
  Sources::Attempt one;
  Sources::Attempt two;
  suffer(sources, one);
  now_ += seconds(1);
  EXPECT_EQ(ask(sources, one), "a");
  EXPECT_EQ(ask(sources, two), "wait");
  EXPECT_TRUE(sources.abandon(one));
  EXPECT_EQ(ask(sources, two), "a");
  EXPECT_FALSE(sources.abandon(one));
}

TEST_F(SourcesTest, ARefusalEndsAnOutage) {
  auto sources = make({a_});
  Sources::Attempt one;
  Sources::Attempt two;
  suffer(sources, one);
  now_ += seconds(1);
  EXPECT_EQ(ask(sources, one), "a");
  fail(sources, one, Errc::kNotFound);
  EXPECT_EQ(ask(sources, one), "fail: no");
  EXPECT_EQ(ask(sources, two), "a");
}

TEST_F(SourcesTest, WhoFailedBeforeAnOutageWasOverAsksAllAgain) {
  auto sources = make({a_, b_});
  Sources::Attempt one;
  Sources::Attempt two;
  EXPECT_EQ(ask(sources, two), "a");
  suffer(sources, one);
  now_ += seconds(1);
  EXPECT_EQ(ask(sources, one), "a");
  EXPECT_TRUE(sources.succeeded(one));
  fail(sources, two, Errc::kTimeout);
  EXPECT_EQ(ask(sources, two), "a") << "it works again";
}

TEST_F(SourcesTest, LocatesAnewWhenAllHaveRefusedButNotTooOften) {
  auto sources = make({a_}, true);
  Sources::Attempt attempt;
  EXPECT_EQ(ask(sources, attempt), "a");
  fail(sources, attempt, Errc::kNotFound);
  EXPECT_EQ(ask(sources, attempt), "locate");
  EXPECT_EQ(ask(sources, attempt), "wait");
  sources.located(Places{b_}, now_);
  EXPECT_EQ(ask(sources, attempt), "b");
  fail(sources, attempt, Errc::kNotFound);
  EXPECT_EQ(ask(sources, attempt), "fail: no") << "nobody asks around in circles";
  now_ += seconds(11);
  Sources::Attempt later;
  EXPECT_EQ(ask(sources, later), "b");
  fail(sources, later, Errc::kNotFound);
  EXPECT_EQ(ask(sources, later), "locate");
}

TEST_F(SourcesTest, WithoutAPlaceItWaitsForOne) {
  auto sources = make({}, true);
  Sources::Attempt attempt;
  EXPECT_EQ(ask(sources, attempt), "locate");
  sources.located(Error(Errc::kUnavailable, "nowhere"), now_);
  EXPECT_EQ(ask(sources, attempt), "wait");
  now_ += seconds(11);
  EXPECT_EQ(ask(sources, attempt), "locate");
  sources.located(Places{a_}, now_);
  EXPECT_EQ(ask(sources, attempt), "a");
  auto hopeless = make({});
  Sources::Attempt other;
  EXPECT_EQ(ask(hopeless, other), "fail: the image's registry is not known yet");
}

TEST_F(SourcesTest, AsksNobodyOnceItIsClosed) {
  auto sources = make({a_}, true);
  EXPECT_EQ(sources.close().size(), 1u);
  Sources::Attempt attempt;
  const auto step = next(sources, attempt);
  ASSERT_EQ(step.move, Move::kFail);
  EXPECT_EQ(step.error->code(), Errc::kCancelled);
  sources.located(Places{b_}, now_);
  EXPECT_EQ(next(sources, attempt).move, Move::kFail);
}

}  // namespace
}  // namespace imsy::cas
