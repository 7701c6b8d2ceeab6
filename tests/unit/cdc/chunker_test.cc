#include "cdc/chunker.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <set>
#include <string>

#include "common/digest.h"
#include "tests/support/image_maker.h"

namespace imsy::cdc {
namespace {

constexpr ChunkerParameters kSmall = {ChunkerAlgorithm::kTwoStage, 256, 1024, 4096};

// The function as the format page gives it: one position at a time, without vector instructions.
class ByTheBook {
 public:
  explicit ByTheBook(const ChunkerParameters& parameters) : p_(parameters) {
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      const std::string text = std::string("imsy chunker v1") + static_cast<char>(i);
      keys_[i] = load_le<std::uint64_t>(sha256(text).bytes().data());
    }
    while ((1u << bits_) < p_.size_avg) ++bits_;
  }

  std::size_t first_chunk(ByteSpan data) const {
    for (std::size_t length = p_.size_min; length < data.size() && length < p_.size_max; ++length) {
      if (is_cut(data.first(length))) return length;
    }
    return std::min<std::size_t>(data.size(), p_.size_max);
  }

 private:
  bool is_cut(ByteSpan chunk) const {
    const auto byte = [&](std::size_t back) {
      return std::to_integer<unsigned>(chunk[chunk.size() - back]);
    };
    const unsigned filter = std::min(10u, bits_ - 2);
    const unsigned sum =
        (byte(1) * 256 + byte(2)) * 46509 + (byte(3) * 256 + byte(4)) * 20253;  // modulo 65536
    const unsigned value = sum % 65536;
    if (value < 32768 || value >= 32768 + (65536u >> filter)) return false;
    const unsigned more = (chunk.size() <= p_.size_avg ? bits_ + 2 : bits_ - 2) - filter;
    return more == 0 || hash(chunk) >> (64 - more) == 0;
  }

  std::uint64_t hash(ByteSpan chunk) const {
    const auto word = [&](std::size_t back) {
      return load_le<std::uint64_t>(chunk.data() + chunk.size() - back);
    };
    return (fold(word(8) ^ keys_[0], word(16) ^ keys_[1]) ^
            fold(word(24) ^ keys_[2], word(32) ^ keys_[3])) *
           (keys_[4] | 1);
  }

  // The product's halves, by schoolbook multiplication of halves of 32 bits.
  static std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
    const std::uint64_t low_a = a & 0xFFFFFFFF;
    const std::uint64_t low_b = b & 0xFFFFFFFF;
    const std::uint64_t first = (a >> 32) * low_b + (low_a * low_b >> 32);
    const std::uint64_t second = low_a * (b >> 32) + (first & 0xFFFFFFFF);
    const std::uint64_t high = (a >> 32) * (b >> 32) + (first >> 32) + (second >> 32);
    return high ^ (a * b);
  }

  ChunkerParameters p_;
  std::array<std::uint64_t, 5> keys_{};
  unsigned bits_ = 0;
};

// Few values, so that the filter sees many equal windows.
Bytes poor_bytes(std::size_t size, std::uint64_t seed) {
  Bytes bytes = test::random_bytes(size, seed);
  for (std::byte& byte : bytes) byte &= std::byte{0x81};
  return bytes;
}

std::vector<std::uint64_t> ends(std::span<const std::uint32_t> lengths) {
  std::vector<std::uint64_t> sums(lengths.size());
  std::partial_sum(lengths.begin(), lengths.end(), sums.begin(), std::plus<std::uint64_t>());
  return sums;
}

TEST(ChunkerTest, RefusesImpossibleParameters) {
  EXPECT_TRUE(validate(ChunkerParameters{}));
  EXPECT_TRUE(validate({ChunkerAlgorithm::kTwoStage, 64, 64, 64}));
  EXPECT_TRUE(validate({ChunkerAlgorithm::kTwoStage, 64, 16u << 20, 16u << 20}));
  const ChunkerParameters bad[] = {
      {ChunkerAlgorithm::kTwoStage, 63, 64, 64},
      {ChunkerAlgorithm::kTwoStage, 128, 64, 256},
      {ChunkerAlgorithm::kTwoStage, 64, 256, 128},
      {ChunkerAlgorithm::kTwoStage, 64, 96, 256},  // avg is no power of two
      {ChunkerAlgorithm::kTwoStage, 64, 64, (16u << 20) + 1},
      {ChunkerAlgorithm::kTwoStage, 0, 0, 0},
      {static_cast<ChunkerAlgorithm>(2), 64, 64, 64},
      {static_cast<ChunkerAlgorithm>(0), 64, 64, 64},
  };
  for (const ChunkerParameters& parameters : bad) {
    const auto valid = validate(parameters);
    ASSERT_FALSE(valid) << parameters.size_min << "/" << parameters.size_avg;
    EXPECT_EQ(valid.error().code(), Errc::kInvalid);
  }
}

TEST(ChunkerTest, CutsWhereTheFormatPageSays) {
  const ChunkerParameters all[] = {
      {ChunkerAlgorithm::kTwoStage, 64, 64, 300},    {ChunkerAlgorithm::kTwoStage, 65, 128, 128},
      {ChunkerAlgorithm::kTwoStage, 100, 512, 1001}, {ChunkerAlgorithm::kTwoStage, 256, 256, 4096},
      {ChunkerAlgorithm::kTwoStage, 64, 1024, 1024}, kSmall,
  };
  for (const Bytes& data : {test::random_bytes(60'000, 1), poor_bytes(60'000, 1)}) {
    for (const ChunkerParameters& parameters : all) {
      const Chunker chunker(parameters);
      const ByTheBook book(parameters);
      ByteSpan rest = data;
      while (!rest.empty()) {
        const std::size_t expected = book.first_chunk(rest);
        ASSERT_EQ(chunker.next(rest), expected)
            << parameters.size_min << " at " << data.size() - rest.size();
        rest = rest.subspan(expected);
      }
    }
  }
}

TEST(ChunkerTest, CutsWhereTheFormatPageSaysWithTheDefaultSizes) {
  const Chunker chunker;
  const ByTheBook book{ChunkerParameters{}};
  const Bytes data = test::random_bytes(1'000'000, 10);
  for (ByteSpan rest = data; !rest.empty(); rest = rest.subspan(chunker.next(rest))) {
    ASSERT_EQ(chunker.next(rest), book.first_chunk(rest)) << "with " << rest.size() << " left";
  }
}

// Pins the function: another cut would make every converted image fetch its large files anew.
TEST(ChunkerTest, GoldenCuts) {
  Bytes data(1u << 20);
  std::uint32_t x = 1;  // a generator that is easy to write down again: x -> 1664525 x + 1013904223
  for (std::byte& byte : data) {
    x = 1664525 * x + 1013904223;
    byte = static_cast<std::byte>(x >> 24);
  }
  const std::vector<std::uint32_t> expected = {50549, 42925, 58519,  72127, 18494, 108503,
                                               72231, 67904, 68153,  67139, 65964, 31023,
                                               69736, 86946, 102262, 66101};
  EXPECT_EQ(chunk_lengths(Chunker(), data), expected);
}

TEST(ChunkerTest, EmptyAndSmallFiles) {
  const Chunker chunker(kSmall);
  const Bytes data = test::random_bytes(kSmall.size_min + 1, 2);
  EXPECT_TRUE(chunk_lengths(chunker, {}).empty());
  EXPECT_EQ(chunker.next({}), 0u);
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{63}, std::size_t{255}, std::size_t{kSmall.size_min}}) {
    EXPECT_EQ(chunk_lengths(chunker, ByteSpan(data).first(size)),
              std::vector<std::uint32_t>{static_cast<std::uint32_t>(size)});
  }
}

TEST(ChunkerTest, KeepsMinimumAndMaximumAndCoversTheFile) {
  const Chunker chunker(kSmall);
  const Bytes data = test::random_bytes(2'000'000, 3);
  const auto lengths = chunk_lengths(chunker, data);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    EXPECT_LE(lengths[i], kSmall.size_max);
    if (i + 1 < lengths.size()) {
      EXPECT_GE(lengths[i], kSmall.size_min);
    }
    sum += lengths[i];
  }
  EXPECT_EQ(sum, data.size());
  // Normalised: most cuts lie near the average, few are forced.
  const double mean = static_cast<double>(sum) / static_cast<double>(lengths.size());
  EXPECT_GT(mean, kSmall.size_avg * 0.8);
  EXPECT_LT(mean, kSmall.size_avg * 1.5);
  const auto forced = std::count(lengths.begin(), lengths.end(), kSmall.size_max);
  EXPECT_LT(forced, static_cast<std::ptrdiff_t>(lengths.size() / 100));
}

TEST(ChunkerTest, ACutDependsOnTheBytesOfItsChunkOnly) {
  const Chunker chunker(kSmall);
  const Bytes data = test::random_bytes(kSmall.size_max, 4);
  const std::size_t cut = chunker.next(data);
  ASSERT_LT(cut, kSmall.size_max);
  Bytes other = test::random_bytes(kSmall.size_max, 5);
  std::copy_n(data.begin(), cut, other.begin());
  EXPECT_EQ(chunker.next(other), cut);
}

TEST(ChunkerTest, PiecesOfAFileGiveTheChunksOfTheWhole) {
  const Chunker chunker(kSmall);
  const Bytes data = test::random_bytes(300'000, 6);
  const auto whole = chunk_lengths(chunker, data);
  std::mt19937_64 generator(7);
  std::vector<std::uint32_t> streamed;
  std::size_t begin = 0;
  std::size_t end = 0;  // what has been read so far
  while (begin < data.size()) {
    if (end < data.size() && end - begin < kSmall.size_max) {
      end = std::min<std::size_t>(data.size(), end + 1 + generator() % 5000);
      continue;
    }
    const std::size_t length = chunker.next(ByteSpan(data).subspan(begin, end - begin));
    streamed.push_back(static_cast<std::uint32_t>(length));
    begin += length;
  }
  EXPECT_EQ(streamed, whole);
}

TEST(ChunkerTest, FindsItsCutsAgainBehindAnInsertion) {
  const Chunker chunker(kSmall);
  const Bytes old_file = test::random_bytes(1'000'000, 8);
  Bytes new_file = old_file;
  const Bytes inserted = test::random_bytes(777, 9);
  const std::size_t at = 500'123;
  new_file.insert(new_file.begin() + at, inserted.begin(), inserted.end());

  const auto old_ends = ends(chunk_lengths(chunker, old_file));
  std::set<std::uint64_t> new_ends;
  for (const std::uint64_t end : ends(chunk_lengths(chunker, new_file))) new_ends.insert(end);
  std::size_t lost_behind = 0;
  for (const std::uint64_t end : old_ends) {
    if (end <= at) {
      EXPECT_TRUE(new_ends.contains(end)) << end;
    } else if (!new_ends.contains(end + inserted.size())) {
      ++lost_behind;
    }
  }
  // A few chunks suffer, not the half million bytes behind the insertion.
  EXPECT_LE(lost_behind, 6u);
}

TEST(ChunkerTest, RunsOfOneByteAreCutAtTheMaximum) {
  const Chunker chunker;
  const std::uint32_t size_max = chunker.parameters().size_max;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const Bytes run(size_max + 1, static_cast<std::byte>(byte));
    EXPECT_EQ(chunker.next(run), size_max) << byte;
  }
}

}  // namespace
}  // namespace imsy::cdc
