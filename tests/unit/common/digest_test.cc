#include "common/digest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <unordered_set>

namespace imsy {
namespace {

// From FIPS 180-4's examples.
constexpr std::string_view kAbc =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr std::string_view kEmpty =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr std::string_view kMillionA =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(DigestTest, MatchesTheStandard) {
  EXPECT_EQ(sha256("abc").hex(), kAbc);
  EXPECT_EQ(sha256("").hex(), kEmpty);
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')).hex(), kMillionA);
  EXPECT_EQ(sha256("abc").to_string(), "sha256:" + std::string(kAbc));
}

TEST(DigestTest, TextAndValueDetermineEachOther) {
  const Digest digest = sha256("abc");
  EXPECT_EQ(Digest::parse(digest.to_string()).value(), digest);
  EXPECT_EQ(Digest::parse_hex(digest.hex()).value(), digest);
  EXPECT_TRUE(std::ranges::equal(Digest(digest.bytes()).bytes(), digest.bytes()));
}

TEST(DigestTest, RefusesAnyOtherSpelling) {
  const std::string hex(kAbc);
  for (const std::string& text :
       {std::string(), std::string("sha256:"), hex, "sha256:" + hex.substr(1),
        "sha256:" + hex + "0", "sha256:" + hex.substr(1) + "g", "sha256:" + hex.substr(1) + "A",
        "SHA256:" + hex, "sha512:" + hex, "sha256-" + hex, " sha256:" + hex, "sha256:" + hex + "\n",
        "sha256:../" + hex.substr(3), "sha256:" + std::string(64, '\0')}) {
    const auto digest = Digest::parse(text);
    ASSERT_FALSE(digest) << text;
    EXPECT_EQ(digest.error().code(), Errc::kInvalid);
  }
  EXPECT_FALSE(Digest::parse_hex("sha256:" + hex));
}

TEST(DigestTest, ZeroIsNothingElse) {
  EXPECT_TRUE(Digest().is_zero());
  EXPECT_FALSE(sha256("").is_zero());
}

TEST(DigestTest, OrdersAndHashesByItsBytes) {
  Digest low;
  Digest high;
  high.mutable_bytes()[0] = std::byte{0x80};
  low.mutable_bytes()[31] = std::byte{0xff};
  EXPECT_LT(low, high);
  std::unordered_set<Digest> set = {low, high, low};
  EXPECT_EQ(set.size(), 2u);
}

TEST(HasherTest, PiecesGiveTheDigestOfTheWhole) {
  const std::string data(100'000, 'a');
  Hasher hasher;
  for (std::size_t at = 0, step = 1; at < data.size(); at += step, step = step * 3 % 1009 + 1) {
    hasher.update(std::string_view(data).substr(at, step));
  }
  EXPECT_EQ(hasher.finish(), sha256(data));
  // It starts anew.
  hasher.update("abc");
  EXPECT_EQ(hasher.finish().hex(), kAbc);
  EXPECT_EQ(hasher.finish().hex(), kEmpty);
}

TEST(HasherTest, MovesWithWhatItHasSeen) {
  Hasher first;
  first.update("a");
  Hasher second = std::move(first);
  second.update("bc");
  EXPECT_EQ(second.finish().hex(), kAbc);
}

}  // namespace
}  // namespace imsy
