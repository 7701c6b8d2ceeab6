#include "converter/content_spool.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/unit/converter/memory_streams.h"

namespace imsy::converter {
namespace {

using testing_support::MemoryReader;
using testing_support::noise;

class ContentSpoolTest : public testing::Test {
 protected:
  ContentSpool spool_ =
      std::move(ContentSpool::create(std::filesystem::temp_directory_path(), {})).value();

  std::uint32_t add(const Bytes& content) {
    MemoryReader reader(content);
    return spool_.add(reader, content.size()).value();
  }
  Bytes content(std::uint32_t number) {
    Bytes bytes(spool_.size(number));
    EXPECT_TRUE(spool_.read(number, 0, bytes));
    return bytes;
  }
};

TEST_F(ContentSpoolTest, GivesBackWhatItTook) {
  const Bytes small = noise(10, 1);
  const Bytes large = noise(9'000'000, 2);
  const auto a = add(small);
  const auto b = add(large);
  EXPECT_EQ(content(a), small);
  EXPECT_EQ(content(b), large);
}

TEST_F(ContentSpoolTest, ChunksAreThoseOfTheChunkerOverTheWholeFile) {
  const Bytes file = noise(5'000'000, 3);
  const auto number = add(file);
  const auto expected = cdc::chunk_lengths(cdc::Chunker(), file);
  const auto sizes = spool_.chunk_sizes(number);
  ASSERT_EQ(std::vector(sizes.begin(), sizes.end()), expected);
  std::size_t offset = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(spool_.digests(number)[i], sha256(ByteSpan(file).subspan(offset, expected[i])));
    offset += expected[i];
  }
}

TEST_F(ContentSpoolTest, EqualContentsAreKeptOnce) {
  const Bytes file = noise(3'000'000, 4);
  const auto first = add(file);
  const auto between = add(noise(100, 5));
  EXPECT_EQ(add(file), first);
  const auto after = add(noise(200, 6));
  EXPECT_EQ(spool_.count(), 3u);
  EXPECT_EQ(content(first), file);
  EXPECT_EQ(content(between), noise(100, 5));
  EXPECT_EQ(content(after), noise(200, 6));
}

TEST_F(ContentSpoolTest, EmptyContentHasNoChunks) {
  const auto empty = add({});
  EXPECT_EQ(spool_.size(empty), 0u);
  EXPECT_TRUE(spool_.digests(empty).empty());
}

TEST_F(ContentSpoolTest, ZerosAreReadBackAsZeros) {
  Bytes file = noise(100'000, 7);
  file.resize(4'000'000);
  const auto number = add(file);
  EXPECT_EQ(content(number), file);
  EXPECT_EQ(content(add(Bytes(1'000'000))), Bytes(1'000'000));
}

TEST_F(ContentSpoolTest, AZeroContentAfterAForgottenCopyIsStillZero) {
  const Bytes file = noise(500'000, 8);
  add(file);
  add(file);  // written, found to be known, forgotten
  EXPECT_EQ(content(add(Bytes(500'000))), Bytes(500'000));
}

TEST_F(ContentSpoolTest, ReportsContentThatEndsEarly) {
  const Bytes file = noise(10, 9);
  MemoryReader reader(file);
  const auto added = spool_.add(reader, 11);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), Errc::kCorrupt);
}

TEST_F(ContentSpoolTest, RefusesADirectoryThatIsNotThere) {
  EXPECT_FALSE(ContentSpool::create("/nonexistent/directory", {}));
}

}  // namespace
}  // namespace imsy::converter
