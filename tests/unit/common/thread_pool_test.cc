#include "common/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <set>
#include <string>
#include <vector>

namespace imsy {
namespace {

TEST(ThreadPoolTest, OneThreadKeepsTheOrder) {
  std::vector<int> order;
  {
    ThreadPool pool("test", 1);
    for (int i = 0; i < 1000; ++i) pool.submit([&order, i] { order.push_back(i); });
  }
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(ThreadPoolTest, TheDestructorRunsWhatWasSubmitted) {
  std::atomic<int> runs = 0;
  {
    ThreadPool pool("test", 3);
    for (int i = 0; i < 500; ++i) pool.submit([&runs] { ++runs; });
  }
  EXPECT_EQ(runs, 500);
}

TEST(ThreadPoolTest, ThreadsWorkAtTheSameTime) {
  // Each task waits for the other: with one thread this would never end.
  std::latch both(2);
  ThreadPool pool("test", 2);
  for (int i = 0; i < 2; ++i) pool.submit([&both] { both.arrive_and_wait(); });
  both.wait();
}

TEST(ThreadPoolTest, TasksMaySubmitTasks) {
  std::atomic<int> runs = 0;
  std::latch done(1);
  ThreadPool pool("test", 1);
  pool.submit([&] {
    ++runs;
    pool.submit([&] {
      ++runs;
      done.count_down();
    });
  });
  done.wait();
  EXPECT_EQ(runs, 2);
}

TEST(ThreadPoolTest, CountsWhatWaits) {
  std::latch started(1);
  std::latch release(1);
  ThreadPool pool("test", 1);
  pool.submit([&] {
    started.count_down();
    release.wait();
  });
  started.wait();
  EXPECT_EQ(pool.queued(), 0u);
  pool.submit([] {});
  pool.submit([] {});
  EXPECT_EQ(pool.queued(), 2u);
  release.count_down();
}

TEST(ThreadPoolTest, NamesItsThreads) {
  std::latch both(2);
  std::string names[2];
  {
    ThreadPool pool("elevenchars", 2);
    for (std::string& name : names) {
      pool.submit([&both, &name] {
        char buffer[16] = {};
        ::pthread_getname_np(::pthread_self(), buffer, sizeof buffer);
        name = buffer;
        both.arrive_and_wait();
      });
    }
  }
  EXPECT_EQ((std::set<std::string>{names[0], names[1]}),
            (std::set<std::string>{"elevenchars-0", "elevenchars-1"}));
}

TEST(MutexTest, WaitingLetsOthersIn) {
  Mutex mu;
  CondVar changed;
  bool ready = false;
  std::jthread thread([&] {
    MutexLock lock(mu);
    ready = true;
    changed.notify_all();
  });
  MutexLock lock(mu);
  while (!ready) changed.wait(mu);
  EXPECT_TRUE(ready);
}

TEST(MutexTest, WaitUntilEndsAtTheDeadline) {
  Mutex mu;
  CondVar never;
  MutexLock lock(mu);
  const auto past = std::chrono::steady_clock::now() - std::chrono::seconds(1);
  EXPECT_FALSE(never.wait_until(mu, past));
}

}  // namespace
}  // namespace imsy
