#include "converter/read_ahead.h"

#include <gtest/gtest.h>

#include <optional>

#include "tests/unit/converter/memory_streams.h"

namespace imsy::converter {
namespace {

using testing_support::MemoryReader;
using testing_support::noise;

// Gives a few bytes at a time, and fails at the end if that is wanted.
class Trickle : public ByteReader {
 public:
  Trickle(ByteSpan data, bool fails) : rest_(data), fails_(fails) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    if (rest_.empty() && fails_) return Error(Errc::kCorrupt, "the end is damaged");
    const std::size_t count = std::min({buffer.size(), rest_.size(), std::size_t{7'777}});
    std::copy_n(rest_.begin(), count, buffer.begin());
    rest_ = rest_.subspan(count);
    return count;
  }

 private:
  ByteSpan rest_;
  const bool fails_;
};

// All bytes until the end or an error, which is put into `failure`.
Bytes drain(ByteReader& reader, std::optional<Error>& failure) {
  Bytes all;
  Bytes piece(100'003);
  for (;;) {
    const auto got = reader.read(piece);
    if (!got) failure = got.error();
    if (!got || *got == 0) return all;
    append(all, ByteSpan(piece).first(*got));
  }
}

TEST(ReadAheadTest, GivesAllBytesHoweverLittleComesAtATime) {
  const Bytes data = noise(12'345'678, 1);
  Trickle input(data, false);
  ReadAhead ahead(input);
  std::optional<Error> failure;
  EXPECT_TRUE(drain(ahead, failure) == data);
  EXPECT_FALSE(failure);
  Bytes more(1);
  EXPECT_EQ(ahead.read(more).value(), 0u);
}

TEST(ReadAheadTest, AnErrorComesBehindTheBytesBeforeIt) {
  const Bytes data = noise(1'500'000, 2);
  Trickle input(data, true);
  ReadAhead ahead(input);
  std::optional<Error> failure;
  EXPECT_TRUE(drain(ahead, failure) == data);
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->message(), "the end is damaged");
}

TEST(ReadAheadTest, AnEmptyInputEndsAtOnce) {
  MemoryReader input({});
  ReadAhead ahead(input);
  Bytes piece(10);
  EXPECT_EQ(ahead.read(piece).value(), 0u);
}

TEST(ReadAheadTest, MayBeLeftBeforeItsEnd) {
  const Bytes data = noise(40'000'000, 3);  // more than it keeps
  MemoryReader input(data);
  ReadAhead ahead(input);
  Bytes piece(10);
  EXPECT_EQ(ahead.read(piece).value(), 10u);
}

}  // namespace
}  // namespace imsy::converter
