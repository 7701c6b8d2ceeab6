#include "snapshotter/types.h"

#include <gtest/gtest.h>

namespace imsy::snapshotter {
namespace {

TEST(MappedRoot, IsWhereIdZeroOfTheContainerLies) {
  EXPECT_EQ(mapped_root("0:100000:65536"), 100'000U);
  EXPECT_EQ(mapped_root("5:1:1,0:42:1"), 42U);
  EXPECT_EQ(mapped_root("0:0:4294967295"), 0U);
}

TEST(MappedRoot, OfOtherTextsThereIsNone) {
  for (const char* mapping : {"", "1:2:3", "0:1:0", "0:1", "0:1:", "0:1:2:3", "0:-1:2", "0:1:2x",
                              " 0:1:2", "a:b:c", ",", "0:4294967296:1", ":", "::"}) {
    EXPECT_FALSE(mapped_root(mapping)) << mapping;
  }
}

}  // namespace
}  // namespace imsy::snapshotter
