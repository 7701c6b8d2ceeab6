#include "cdc/frame.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include "tests/support/image_maker.h"

namespace imsy::cdc {
namespace {

Bytes text(std::size_t size) {
  Bytes bytes;
  for (std::size_t i = 0; bytes.size() < size; ++i) {
    append(bytes, as_bytes("line " + std::to_string(i * i) + " of a file that compresses well\n"));
  }
  bytes.resize(size);
  return bytes;
}

// A frame made with other settings than ours.
Bytes foreign_frame(const Bytes& raw, ZSTD_cParameter parameter, int value) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  EXPECT_EQ(ZSTD_isError(ZSTD_CCtx_setParameter(context, parameter, value)), 0u);
  Bytes stored(ZSTD_compressBound(raw.size()) + 32);
  const std::size_t size =
      ZSTD_compress2(context, stored.data(), stored.size(), raw.data(), raw.size());
  EXPECT_EQ(ZSTD_isError(size), 0u);
  stored.resize(size);
  ZSTD_freeCCtx(context);
  return stored;
}

void expect_corrupt(ByteSpan stored, std::uint32_t raw_size) {
  const auto decoded = FrameDecoder().decode(stored, raw_size);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code(), Errc::kCorrupt);
}

TEST(FrameTest, GivesBackWhatWasPutIn) {
  for (const int level : {1, 9, 19}) {
    FrameEncoder encoder(level);
    FrameDecoder decoder;
    for (const std::size_t size : {1u, 2u, 255u, 256u, 65'537u}) {
      for (const Bytes& raw : {text(size), test::random_bytes(size, size), Bytes(size)}) {
        const Bytes stored = encoder.encode(raw);
        const auto decoded = decoder.decode(stored, static_cast<std::uint32_t>(size));
        ASSERT_TRUE(decoded) << decoded.error().message();
        EXPECT_EQ(*decoded, raw);
      }
    }
  }
}

TEST(FrameTest, HoldsUpToTheLimit) {
  const Bytes raw = text(kFrameLimit);
  FrameEncoder encoder(1);
  const auto decoded = FrameDecoder().decode(encoder.encode(raw), kFrameLimit);
  ASSERT_TRUE(decoded) << decoded.error().message();
  EXPECT_EQ(*decoded, raw);
}

TEST(FrameTest, EncoderIsDeterministicAndKeepsNothingBetweenFrames) {
  const Bytes a = text(100'000);
  const Bytes b = test::random_bytes(50'000, 1);
  FrameEncoder used(9);
  const Bytes first = used.encode(a);
  ASSERT_FALSE(used.encode(b).empty());
  EXPECT_EQ(used.encode(a), first);
  EXPECT_EQ(FrameEncoder(9).encode(a), first);
}

TEST(FrameTest, StatesItsSizeAndHasNeitherChecksumNorDictionary) {
  const Bytes raw = text(100'000);
  const Bytes stored = FrameEncoder(3).encode(raw);
  EXPECT_EQ(ZSTD_getFrameContentSize(stored.data(), stored.size()), raw.size());
  const auto descriptor = std::to_integer<unsigned>(stored[4]);
  EXPECT_EQ(descriptor & 4u, 0u);  // checksum
  EXPECT_EQ(descriptor & 3u, 0u);  // dictionary id
}

TEST(FrameTest, IncompressibleDataHardlyGrows) {
  const Bytes raw = test::random_bytes(kSmallFilesFrame, 2);
  EXPECT_LE(FrameEncoder(9).encode(raw).size(), raw.size() + 64);
}

TEST(FrameDecoderTest, RefusesAnotherSize) {
  const Bytes raw = text(10'000);
  const Bytes stored = FrameEncoder(3).encode(raw);
  for (const std::uint32_t size : {0u, 1u, 9'999u, 10'001u, kFrameLimit, kFrameLimit + 1, ~0u}) {
    expect_corrupt(stored, size);
  }
}

TEST(FrameDecoderTest, RefusesMoreThanTheLimitEvenWhenItIsTrue) {
  const Bytes raw(kFrameLimit + 1);
  expect_corrupt(foreign_frame(raw, ZSTD_c_compressionLevel, 1), kFrameLimit + 1);
}

TEST(FrameDecoderTest, RefusesEveryTruncationAndTrailingByte) {
  const Bytes raw = text(3'000);
  const Bytes stored = FrameEncoder(3).encode(raw);
  for (std::size_t size = 0; size < stored.size(); ++size) {
    expect_corrupt(ByteSpan(stored).first(size), 3'000);
  }
  Bytes longer = stored;
  longer.push_back(std::byte{0});
  expect_corrupt(longer, 3'000);
  Bytes two = stored;
  append(two, stored);
  expect_corrupt(two, 3'000);
  expect_corrupt(two, 6'000);
}

TEST(FrameDecoderTest, RefusesASkippableFrame) {
  Bytes stored = skippable_header(10).value();
  stored.resize(stored.size() + 10);
  expect_corrupt(stored, 10);
  Bytes with_frame = stored;
  append(with_frame, FrameEncoder(3).encode(text(10)));
  expect_corrupt(with_frame, 10);
}

TEST(FrameDecoderTest, RefusesAFrameThatDoesNotStateItsSize) {
  const Bytes raw = text(10'000);
  expect_corrupt(foreign_frame(raw, ZSTD_c_contentSizeFlag, 0), 10'000);
}

TEST(FrameDecoderTest, RefusesADictionary) {
  const Bytes raw = text(10'000);
  // Any content makes a dictionary; a header with an id makes the frame ask for it.
  Bytes stored = FrameEncoder(3).encode(raw);
  stored[4] |= std::byte{1};                        // dictionary id of one byte
  stored.insert(stored.begin() + 5, std::byte{7});  // single segment: it is next
  ASSERT_EQ(ZSTD_getDictID_fromFrame(stored.data(), stored.size()), 7u);
  expect_corrupt(stored, 10'000);
}

TEST(FrameDecoderTest, RefusesALargeWindow) {
  // A frame by hand: window descriptor instead of single segment, one raw block of 10 bytes.
  const auto frame = [](unsigned window) {
    Bytes stored;
    append_le(stored, std::uint32_t{0xfd2fb528});
    append_le(stored, std::uint8_t{0x80});  // content size of four bytes
    append_le(stored, static_cast<std::uint8_t>(window));
    append_le(stored, std::uint32_t{10});
    for (const unsigned byte : {10u << 3 | 1u, 0u, 0u}) stored.push_back(std::byte(byte));
    stored.resize(stored.size() + 10, std::byte{'x'});
    return stored;
  };
  EXPECT_TRUE(FrameDecoder().decode(frame(13u << 3), 10));  // 2^23: 8 MiB
  expect_corrupt(frame(13u << 3 | 1u), 10);
  expect_corrupt(frame(31u << 3), 10);
}

TEST(FrameDecoderTest, SurvivesEveryFlippedBit) {
  const Bytes raw = text(2'000);
  const Bytes good = FrameEncoder(3).encode(raw);
  FrameDecoder decoder;
  for (std::size_t i = 0; i < good.size() * 8; ++i) {
    Bytes bad = good;
    bad[i / 8] ^= std::byte{1} << (i % 8);
    const auto decoded = decoder.decode(bad, 2'000);
    if (decoded) {
      EXPECT_EQ(decoded->size(), 2'000u);
    }
  }
  // And still works afterwards.
  const auto decoded = decoder.decode(good, 2'000);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, raw);
}

TEST(SkippableFrameTest, OrdinaryReadersPassOverIt) {
  const Bytes raw = text(1'000);
  Bytes stream = FrameEncoder(3).encode(raw);
  append(stream, skippable_header(5).value());
  append(stream, as_bytes("hello"));
  Bytes decoded(2'000);
  EXPECT_EQ(ZSTD_decompress(decoded.data(), decoded.size(), stream.data(), stream.size()), 1'000u);
  EXPECT_EQ(skippable_header(5)->size(), kSkippableHeaderSize);
}

TEST(SkippableFrameTest, EndsAtFourGiB) {
  constexpr std::uint64_t kEnd = std::uint64_t{1} << 32;
  EXPECT_TRUE(skippable_header(kEnd - 1));
  const auto header = skippable_header(kEnd);
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().code(), Errc::kInvalid);
}

}  // namespace
}  // namespace imsy::cdc
