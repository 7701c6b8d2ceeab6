#include "cdc/object_id.h"

#include <gtest/gtest.h>

namespace imsy::cdc {
namespace {

// All expected values are from sha256sum over the bytes that the header of object_id.h lists.

TEST(ObjectIdTest, EmptyObject) {
  EXPECT_EQ(object_id(0, {}).hex(),
            "616f6a707c734b3c7a59f0ad64ad977f775757678ae69f5039f23fb3ad0641bf");
}

TEST(ObjectIdTest, OneChunk) {
  const ChunkDigest chunk = sha256("hello");
  EXPECT_EQ(object_id(5, std::span(&chunk, 1)).hex(),
            "bcf668871795f9a5ddb35ffe292754c9cd06817410656b88f33ce8640a9cef43");
}

TEST(ObjectIdTest, SeveralChunksInOrder) {
  const ChunkDigest chunks[] = {sha256("hello"), sha256("world!")};
  const ChunkDigest swapped[] = {chunks[1], chunks[0]};
  EXPECT_EQ(object_id(11, chunks).hex(),
            "8a5c4b56347232042db2f1943a6fcddad1508bc623cce45aa76893a37717842e");
  EXPECT_NE(object_id(11, swapped), object_id(11, chunks));
}

TEST(ObjectIdTest, TheSizeIsPartOfTheName) {
  const ChunkDigest chunk = sha256("hello");
  EXPECT_NE(object_id(5, std::span(&chunk, 1)), object_id(6, std::span(&chunk, 1)));
  EXPECT_NE(object_id(5, std::span(&chunk, 1)),
            object_id((std::uint64_t{1} << 32) + 5, std::span(&chunk, 1)));
}

}  // namespace
}  // namespace imsy::cdc
