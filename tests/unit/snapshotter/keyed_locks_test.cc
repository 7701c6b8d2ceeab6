#include "snapshotter/keyed_locks.h"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

namespace imsy::snapshotter {
namespace {

using Clock = std::chrono::steady_clock;

TEST(KeyedLocks, OneHolderPerKey) {
  KeyedLocks locks;
  auto one = locks.lock(sha256("a"), Clock::time_point::max());
  ASSERT_TRUE(one);
  EXPECT_TRUE(locks.lock(sha256("b"), Clock::time_point::max())) << "other keys are free";
  const auto second = locks.lock(sha256("a"), Clock::now());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), Errc::kTimeout);
  { const auto released = std::move(*one); }
  EXPECT_TRUE(locks.lock(sha256("a"), Clock::now()));
}

TEST(KeyedLocks, ExcludeEachOther) {
  KeyedLocks locks;
  std::atomic<int> inside = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        const auto lock = locks.lock(sha256("a"), Clock::time_point::max());
        ASSERT_TRUE(lock);
        EXPECT_EQ(++inside, 1);
        --inside;
      }
    });
  }
}

TEST(KeyedLocks, StoppingEndsWaiting) {
  KeyedLocks locks;
  const auto held = locks.lock(sha256("a"), Clock::time_point::max());
  std::optional<Errc> ended;
  std::jthread waiter([&] {
    const auto lock = locks.lock(sha256("a"), Clock::time_point::max());
    if (!lock) ended = lock.error().code();
  });
  locks.stop();
  waiter.join();
  EXPECT_EQ(ended, Errc::kCancelled);
  EXPECT_FALSE(locks.lock(sha256("b"), Clock::time_point::max()));
}

}  // namespace
}  // namespace imsy::snapshotter
