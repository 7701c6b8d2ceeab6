#include "cli/seed/rabin.h"

#include <gtest/gtest.h>

#include "tests/unit/cli/support.h"

namespace imsy::cli::seed {
namespace {

// The rule, word by word: divide the last 64 bytes as a polynomial, bit by bit.
std::uint64_t slow_fingerprint(ByteSpan window) {
  std::uint64_t remainder = 0;
  for (const std::byte byte : window) {
    for (int bit = 7; bit >= 0; --bit) {
      remainder = remainder << 1 | (std::to_integer<std::uint64_t>(byte) >> bit & 1);
      if ((remainder >> 53 & 1) != 0) remainder ^= kPolynomial;
    }
  }
  return remainder;
}

std::size_t slow_first_chunk_size(ByteSpan data) {
  const std::size_t limit = std::min(data.size(), kChunkSizeMax);
  for (std::size_t size = kChunkSizeMin; size < limit; ++size) {
    if ((slow_fingerprint(data.subspan(size - 64, 64)) & kCutMask) == 0) return size;
  }
  return limit;
}

std::vector<std::size_t> chunk_sizes(const std::string& text, std::size_t piece = SIZE_MAX) {
  TextReader in(text, piece);
  RabinChunker chunker(in);
  std::vector<std::size_t> sizes;
  std::string joined;
  for (;;) {
    const auto chunk = chunker.next();
    if (!chunk || chunk->empty()) break;
    sizes.push_back(chunk->size());
    joined += as_text(*chunk);
  }
  EXPECT_EQ(joined == text, true);
  return sizes;
}

TEST(Rabin, CutsAsTheOriginalDoes) {
  const std::vector<std::size_t> expected = {1048576, 1048576, 1048576, 350406, 423779, 264349,
                                             1048576, 978913,  1042984, 463693, 670180};
  EXPECT_EQ(chunk_sizes(random_text()), expected);
}

TEST(Rabin, DoesNotDependOnTheSizeOfReads) {
  const std::string text = random_text();
  EXPECT_EQ(chunk_sizes(text, 77777), chunk_sizes(text));
}

TEST(Rabin, CutsZerosAtTheMinimum) {
  EXPECT_EQ(chunk_sizes(std::string(3 * kChunkSizeMin + 1, '\0')),
            (std::vector<std::size_t>{kChunkSizeMin, kChunkSizeMin, kChunkSizeMin, 1}));
}

TEST(Rabin, CutsNothingBelowTheMinimum) {
  for (const std::size_t size : {std::size_t{1}, kChunkSizeMin - 1, kChunkSizeMin}) {
    EXPECT_EQ(chunk_sizes(std::string(size, '\0')), std::vector<std::size_t>{size});
  }
  EXPECT_TRUE(chunk_sizes("").empty());
}

TEST(Rabin, CutsAtTheMaximumWhenNoWindowAsksForIt) {
  // All bytes alike: one fingerprint everywhere, and not one that cuts.
  const std::string text(2 * kChunkSizeMax + 5, 'a');
  EXPECT_EQ(chunk_sizes(text), (std::vector<std::size_t>{kChunkSizeMax, kChunkSizeMax, 5}));
}

// Zeros placed so that the cut falls on the first and last positions of stretches that are walked
// side by side, and where a later stretch has one as well.
TEST(Rabin, FindsTheFirstCutWhereverItLies) {
  std::vector<std::size_t> ends = {
      kChunkSizeMin,        kChunkSizeMin + 1,    kChunkSizeMin + 2047, kChunkSizeMin + 2048,
      kChunkSizeMin + 2049, kChunkSizeMin + 8191, kChunkSizeMin + 8192, 700001,
      kChunkSizeMax - 1,    kChunkSizeMax};
  for (const std::size_t end : ends) {
    std::string text(kChunkSizeMax + 4096, 'a');
    text.replace(end - 64, 64, 64, '\0');
    text.replace(std::min(end + 3000, kChunkSizeMax) - 64, 64, 64, '\0');
    EXPECT_EQ(first_chunk_size(as_bytes(text)), end);
  }
}

TEST(Rabin, AgreesWithTheRuleOnAllTails) {
  // Short enough for the slow way, and of every length around the steps of the fast one.
  const std::string text = random_text().substr(5 << 20, kChunkSizeMin + 20000);
  for (std::size_t size = kChunkSizeMin; size < text.size(); size += 1237) {
    const ByteSpan data = as_bytes(text).first(size);
    EXPECT_EQ(first_chunk_size(data), slow_first_chunk_size(data));
  }
}

TEST(Rabin, AgreesWithTheRuleWhereAWindowCuts) {
  const std::string text = random_text();
  const ByteSpan third = as_bytes(text).subspan(3 * kChunkSizeMax, kChunkSizeMax);
  EXPECT_EQ(first_chunk_size(third), slow_first_chunk_size(third));
}

TEST(Rabin, HandsOnAReadError) {
  TextReader in(std::string(100, 'x'), SIZE_MAX, /*fails=*/true);
  RabinChunker chunker(in);
  const auto chunk = chunker.next();
  ASSERT_FALSE(chunk);
  EXPECT_EQ(chunk.error().message(), "the pipe broke");
}

}  // namespace
}  // namespace imsy::cli::seed
