// Which requests go on the wire, and which leave it, told the time.
#include "cas/dispatch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace imsy::cas {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using Id = Dispatch::Id;
using Ids = std::vector<Id>;

class DispatchTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kMiB = 1u << 20;

  Id add(Dispatch& dispatch, Purpose purpose, std::uint64_t bytes = 1'000, int image = 0,
         const std::string& host = "host") {
    return dispatch.add({purpose, &images_[image], host, bytes, cost_});
  }
  Ids sent(Dispatch& dispatch) { return dispatch.next(now_).send; }

  Dispatch::Options options_;
  Cost cost_;
  Dispatch::Time now_{std::chrono::hours(1)};
  int images_[8] = {};
};

TEST_F(DispatchTest, ReadersGoFirstThenTheStartUpThenTheFill) {
  options_.per_host = 1;
  Dispatch dispatch(options_);
  const Id fill = add(dispatch, Purpose::kFill);
  const Id startup = add(dispatch, Purpose::kStartup);
  const Id demand = add(dispatch, Purpose::kDemand);
  for (const Id expected : {demand, startup, fill}) {
    EXPECT_EQ(sent(dispatch), Ids{expected});
    dispatch.ended(expected);
    dispatch.forget(expected);
  }
  EXPECT_TRUE(sent(dispatch).empty());
}

TEST_F(DispatchTest, AHostHasItsShareOfRequestsAndAnotherItsOwn) {
  options_.per_host = 4;
  Dispatch dispatch(options_);
  for (int i = 0; i < 10; ++i) add(dispatch, Purpose::kDemand, 1'000, 0, i < 8 ? "a" : "b");
  const Ids first = sent(dispatch);
  EXPECT_EQ(first.size(), 4u + 2u);
  EXPECT_TRUE(sent(dispatch).empty());
  dispatch.ended(first.front());  // it frees its slot before its bytes are processed
  EXPECT_EQ(sent(dispatch).size(), 1u);
}

TEST_F(DispatchTest, TheBackgroundLeavesAQuarterToReaders) {
  options_.per_host = 8;
  Dispatch dispatch(options_);
  for (int i = 0; i < 10; ++i) add(dispatch, Purpose::kStartup);
  EXPECT_EQ(sent(dispatch).size(), 6u);
  add(dispatch, Purpose::kDemand);
  EXPECT_EQ(sent(dispatch).size(), 1u);
}

TEST_F(DispatchTest, ImagesTakeTurnsByBytes) {
  options_.per_host = 1;
  Dispatch dispatch(options_);
  for (int i = 0; i < 8; ++i) add(dispatch, Purpose::kDemand, 100'000, 0);
  for (int i = 0; i < 40; ++i) add(dispatch, Purpose::kDemand, 10'000, 1);
  std::uint64_t given[2] = {};
  for (int i = 0; i < 22; ++i) {
    const Ids one = sent(dispatch);
    ASSERT_EQ(one.size(), 1u);
    given[one[0] <= 8 ? 0 : 1] += one[0] <= 8 ? 100'000 : 10'000;
    dispatch.forget(one[0]);
  }
  EXPECT_LE(given[0] > given[1] ? given[0] - given[1] : given[1] - given[0], 100'000u);
}

TEST_F(DispatchTest, WhoComesLateHasNoArrears) {
  options_.per_host = 1;
  Dispatch dispatch(options_);
  for (int i = 0; i < 5; ++i) add(dispatch, Purpose::kDemand, 1'000'000, 0);
  for (int i = 0; i < 3; ++i) dispatch.forget(sent(dispatch).at(0));
  for (int i = 0; i < 5; ++i) add(dispatch, Purpose::kDemand, 1'000'000, 1);
  int of_first = 0;
  for (int i = 0; i < 4; ++i) {
    const Id one = sent(dispatch).at(0);
    of_first += one <= 5 ? 1 : 0;
    dispatch.forget(one);
  }
  EXPECT_EQ(of_first, 2);
}

TEST_F(DispatchTest, BytesInFlightAreBoundedOverAllImages) {
  options_.per_host = 1'000;
  Dispatch dispatch(options_);
  Ids on_wire;
  std::uint64_t most = 0;
  for (int i = 0; i < 400; ++i) {
    add(dispatch, i % 3 == 0 ? Purpose::kFill : Purpose::kDemand, 700'000 + i, i % 8,
        std::to_string(i % 20));
    for (const Id id : sent(dispatch)) on_wire.push_back(id);
    most = std::max(most, dispatch.bytes_held());
    if (i % 5 == 4 && !on_wire.empty()) {
      dispatch.ended(on_wire.back());
      dispatch.forget(on_wire.back());
      on_wire.pop_back();
    }
  }
  EXPECT_GT(most, options_.bytes_max * 9 / 10);
  EXPECT_LE(most, options_.bytes_max);
}

TEST_F(DispatchTest, OneThatIsLargerThanAllGoesAlone) {
  options_.bytes_max = 1'000;
  Dispatch dispatch(options_);
  const Id large = add(dispatch, Purpose::kDemand, 5'000);
  const Id small = add(dispatch, Purpose::kDemand, 10);
  EXPECT_EQ(sent(dispatch), Ids{large});
  dispatch.ended(large);
  EXPECT_TRUE(sent(dispatch).empty());
  dispatch.forget(large);
  EXPECT_EQ(sent(dispatch), Ids{small});
}

TEST_F(DispatchTest, TheFillLeavesRoomToReaders) {
  Dispatch dispatch(options_);
  for (int i = 0; i < 10; ++i) add(dispatch, Purpose::kFill, 8 * kMiB);
  EXPECT_EQ(sent(dispatch).size(), 3u);
  for (int i = 0; i < 10; ++i) add(dispatch, Purpose::kDemand, kMiB);
  EXPECT_EQ(sent(dispatch).size(), 8u);
}

// --- pre-emption

TEST_F(DispatchTest, NoFillBeginsWhereReadersAreServed) {
  Dispatch dispatch(options_);
  const Id demand = add(dispatch, Purpose::kDemand);
  EXPECT_EQ(sent(dispatch), Ids{demand});
  const Id fill = add(dispatch, Purpose::kFill);
  const Id elsewhere = add(dispatch, Purpose::kFill, 1'000, 0, "other");
  EXPECT_EQ(sent(dispatch), Ids{elsewhere});
  dispatch.ended(demand);
  EXPECT_EQ(sent(dispatch), Ids{fill});
}

TEST_F(DispatchTest, AReaderCutsAFillThatWouldTakeLong) {
  cost_ = {milliseconds(20), 10'000'000};
  Dispatch dispatch(options_);
  const Id longer = add(dispatch, Purpose::kFill, 4'000'000);
  const Id nearly_over = add(dispatch, Purpose::kFill, 4'000'000);
  EXPECT_EQ(sent(dispatch).size(), 2u);
  dispatch.came(longer, 2'000'000);
  dispatch.came(nearly_over, 3'500'000);  // 50 ms more
  const Id demand = add(dispatch, Purpose::kDemand);
  auto moves = dispatch.next(now_);
  EXPECT_EQ(moves.send, Ids{demand});
  EXPECT_EQ(moves.cut, Ids{longer});
  EXPECT_TRUE(dispatch.next(now_).cut.empty()) << "once";
}

TEST_F(DispatchTest, AFarAwayHostCutsOnlyWhatTakesLongerThanItsRoundTrips) {
  cost_ = {milliseconds(300), 10'000'000};
  Dispatch dispatch(options_);
  add(dispatch, Purpose::kFill, 8'000'000);
  const Id longer = add(dispatch, Purpose::kFill, 10'000'000);
  sent(dispatch);
  add(dispatch, Purpose::kDemand);
  EXPECT_EQ(dispatch.next(now_).cut, Ids{longer});
}

TEST_F(DispatchTest, NothingIsCutWhereNothingWasMeasured) {
  Dispatch dispatch(options_);
  add(dispatch, Purpose::kFill, 8 * kMiB);
  sent(dispatch);
  add(dispatch, Purpose::kDemand);
  EXPECT_TRUE(dispatch.next(now_).cut.empty());
}

TEST_F(DispatchTest, WithoutASlotOneIsCutSooner) {
  cost_ = {milliseconds(1), 100'000'000};
  options_.per_host = 1;
  Dispatch dispatch(options_);
  const Id fill = add(dispatch, Purpose::kFill, 1'000'000);  // 10 ms
  sent(dispatch);
  const Id demand = add(dispatch, Purpose::kDemand);
  const auto moves = dispatch.next(now_);
  EXPECT_TRUE(moves.send.empty());
  EXPECT_EQ(moves.cut, Ids{fill});
  dispatch.ended(fill);
  EXPECT_EQ(sent(dispatch), Ids{demand});
}

// --- the rate of the background

TEST_F(DispatchTest, HoldsTheRateOfTheBackground) {
  options_.rate = 10'000'000;
  Dispatch dispatch(options_);
  std::uint64_t bytes = 0;
  const auto end = now_ + std::chrono::seconds(60);
  while (now_ < end) {
    add(dispatch, Purpose::kFill, 1'000'000);
    auto moves = dispatch.next(now_);
    for (const Id id : moves.send) {
      bytes += 1'000'000;
      dispatch.forget(id);
    }
    if (moves.send.empty()) {
      ASSERT_NE(moves.wake_at, Dispatch::Time::max());
      ASSERT_GT(moves.wake_at, now_);
      now_ = moves.wake_at;
    }
  }
  EXPECT_NEAR(static_cast<double>(bytes), 600e6, 600e6 * 0.05);
}

TEST_F(DispatchTest, ReadersDoNotWaitForTheRateButAreCounted) {
  options_.rate = 1'000'000;
  Dispatch dispatch(options_);
  for (int i = 0; i < 4; ++i) {
    const Id demand = add(dispatch, Purpose::kDemand, 500'000);
    EXPECT_EQ(sent(dispatch), Ids{demand});
    dispatch.forget(demand);
  }
  add(dispatch, Purpose::kFill);
  const auto moves = dispatch.next(now_);
  EXPECT_TRUE(moves.send.empty());
  EXPECT_GE(moves.wake_at, now_ + std::chrono::seconds(1));
  now_ = moves.wake_at;
  EXPECT_EQ(sent(dispatch).size(), 1u);
}

// --- a link, simulated: what is on the wire shares it evenly

TEST_F(DispatchTest, AFillDoesNotHoldReadersUp) {
  constexpr std::uint64_t kBandwidth = 10'000'000;
  cost_ = {milliseconds(20), kBandwidth};
  Dispatch dispatch(options_);
  std::map<Id, std::uint64_t> left;
  std::map<Id, Dispatch::Time> asked;
  double worst = 0;
  const auto step = microseconds(500);
  for (int tick = 0; tick < 20'000; ++tick, now_ += step) {
    if (left.size() < 4) add(dispatch, Purpose::kFill, 2'500'000);  // always something to fill
    if (tick % 1'000 == 500) asked[add(dispatch, Purpose::kDemand, 256'000)] = now_;
    const auto moves = dispatch.next(now_);
    for (const Id id : moves.send) left[id] = asked.contains(id) ? 256'000 : 2'500'000;
    for (const Id id : moves.cut) {
      left.erase(id);
      dispatch.forget(id);
    }
    if (left.empty()) continue;
    const auto share = kBandwidth * 500 / 1'000'000 / left.size();
    for (auto at = left.begin(); at != left.end();) {
      const auto id = at->first;
      dispatch.came(id, std::min<std::uint64_t>(share, at->second));
      at->second -= std::min<std::uint64_t>(share, at->second);
      if (at->second > 0) {
        ++at;
        continue;
      }
      if (asked.contains(id)) {
        worst = std::max(worst, std::chrono::duration<double>(now_ - asked[id]).count());
      }
      dispatch.forget(id);
      at = left.erase(at);
    }
  }
  EXPECT_GE(asked.size(), 20u);
  // Alone it takes 26 ms; a fill that is nearly over may share the link for a while.
  EXPECT_LT(worst, 0.100);
}

}  // namespace
}  // namespace imsy::cas
