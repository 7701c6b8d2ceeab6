#include "common/bytes.h"

#include <gtest/gtest.h>

namespace imsy {
namespace {

TEST(BytesTest, NumbersAreLittleEndianAtAnyAddress) {
  Bytes bytes = {std::byte{0xee}};
  append_le(bytes, std::uint32_t{0x01020304});
  append_le(bytes, std::uint64_t{0x1122334455667788});
  ASSERT_EQ(bytes.size(), 13u);
  EXPECT_EQ(bytes[1], std::byte{4});
  EXPECT_EQ(bytes[4], std::byte{1});
  EXPECT_EQ(load_le<std::uint32_t>(&bytes[1]), 0x01020304u);
  EXPECT_EQ(load_le<std::uint64_t>(&bytes[5]), 0x1122334455667788u);
  store_le(&bytes[3], std::uint16_t{0xabcd});
  EXPECT_EQ(bytes[3], std::byte{0xcd});
  EXPECT_EQ(bytes[4], std::byte{0xab});
}

TEST(BytesTest, TextAndBytesAreTheSameMemory) {
  const std::string_view text("a\0\xff", 3);
  const ByteSpan bytes = as_bytes(text);
  EXPECT_EQ(bytes.size(), 3u);
  EXPECT_EQ(bytes[2], std::byte{0xff});
  EXPECT_EQ(as_text(bytes), text);
  Bytes copy;
  append(copy, bytes);
  append(copy, {});
  EXPECT_EQ(as_text(copy), text);
}

}  // namespace
}  // namespace imsy
