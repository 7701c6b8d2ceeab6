#include "snapshotter/row_cache.h"

#include <gtest/gtest.h>

namespace imsy::snapshotter {
namespace {

using Cache = RowCache<int>;

TEST(RowCache, FindsWhatWasKept) {
  Cache cache;
  EXPECT_EQ(cache.find("a"), nullptr);
  cache.keep(cache.generation(), "a", std::make_shared<const int>(1));
  ASSERT_NE(cache.find("a"), nullptr);
  EXPECT_EQ(*cache.find("a"), 1);
  cache.forget({"a", "b"});
  EXPECT_EQ(cache.find("a"), nullptr);
}

TEST(RowCache, WhatWasReadBeforeAChangeIsNotKept) {
  Cache cache;
  const auto before = cache.generation();
  cache.forget({"a"});
  cache.keep(before, "a", std::make_shared<const int>(1));
  EXPECT_EQ(cache.find("a"), nullptr);
  cache.keep(cache.generation(), "a", std::make_shared<const int>(2));
  EXPECT_EQ(*cache.find("a"), 2);
}

TEST(RowCache, ItsSizeIsBounded) {
  Cache cache;
  for (std::size_t i = 0; i <= Cache::kRowsMax; ++i) {
    cache.keep(0, std::to_string(i), std::make_shared<const int>(0));
  }
  EXPECT_EQ(cache.find("0"), nullptr);
  EXPECT_NE(cache.find(std::to_string(Cache::kRowsMax)), nullptr);
}

}  // namespace
}  // namespace imsy::snapshotter
