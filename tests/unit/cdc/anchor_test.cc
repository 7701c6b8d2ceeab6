#include "cdc/anchor.h"

#include <gtest/gtest.h>

#include <limits>

namespace imsy::cdc {
namespace {

constexpr std::string_view kHexA =
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
constexpr std::string_view kHexB =
    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
constexpr std::string_view kHexC =
    "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

Digest digest(std::string_view hex) {
  return Digest::parse_hex(hex).value();
}

Anchor sample() {
  Anchor anchor;
  anchor.manifest = digest(kHexA);
  anchor.header_size = 296;
  anchor.manifest_size = 4000;
  anchor.manifest_offset = 123456;
  anchor.manifest_layer = 0;
  anchor.data_layers = {{digest(kHexB), 127456, digest(kHexC)}};
  return anchor;
}

std::string text_of(std::string_view manifest_line, std::string_view data_line) {
  return "imsy-anchor 1\n" + std::string(manifest_line) + "\n" + std::string(data_line) + "\n";
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), with);
}

TEST(AnchorTest, TextIsAsTheFormatPageSays) {
  EXPECT_EQ(sample().to_text(),
            "imsy-anchor 1\n"
            "manifest sha256:" +
                std::string(kHexA) +
                " 296 4000 123456 0\n"
                "data sha256:" +
                std::string(kHexB) + " 127456 sha256:" + std::string(kHexC) + "\n");
}

TEST(AnchorTest, TextAndValueDetermineEachOther) {
  Anchor anchor = sample();
  anchor.data_layers.push_back({digest(kHexA), 5000, digest(kHexB)});
  anchor.manifest_layer = 1;
  anchor.manifest_offset = 1000;
  const auto parsed = Anchor::parse(anchor.to_text());
  ASSERT_TRUE(parsed) << parsed.error().message();
  EXPECT_EQ(*parsed, anchor);
}

TEST(AnchorTest, AnyOtherSpellingIsRefused) {
  const std::string good = sample().to_text();
  ASSERT_TRUE(Anchor::parse(good));
  // Every prefix, every byte left out, and a foreign byte at every place.
  for (std::size_t i = 0; i < good.size(); ++i) {
    EXPECT_FALSE(Anchor::parse(good.substr(0, i))) << i;
    for (const char c : {' ', '\n', '\r', '\t', '0', 'A', '+', '\0'}) {
      std::string bad = good;
      bad.insert(i, 1, c);
      const auto parsed = Anchor::parse(bad);
      // A digit may be inserted into a number: then the value is another one.
      if (parsed) {
        EXPECT_EQ(c, '0') << i;
        EXPECT_EQ(parsed->to_text(), bad);
      }
    }
  }
  for (const std::string& bad : {
           good + "\n",
           good + "more",
           good + "data\n",
           replaced(good, "manifest sha256:", "manifest SHA256:"),
           replaced(good, "aaaa", "AAAA"),
           replaced(good, " 296 ", " 0296 "),
           replaced(good, " 296 ", " -296 "),
           replaced(good, " 296 ", " 0x128 "),
           replaced(good, " 296 ", " 296  "),
           replaced(good, " 4000 ", " 18446744073709551616 "),
           replaced(good, " 0\n", " 4294967296\n"),
           replaced(good, "\n", "\r\n"),
       }) {
    const auto parsed = Anchor::parse(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code(), Errc::kInvalid);
  }
}

TEST(AnchorTest, NamesTheWrongLine) {
  const std::string good = sample().to_text();
  const auto message = [](const std::string& text) {
    const auto parsed = Anchor::parse(text);
    return parsed ? std::string("parsed") : parsed.error().message();
  };
  EXPECT_NE(message(replaced(good, "imsy-anchor", "imsy-ancho")).find("line 1"), std::string::npos);
  EXPECT_NE(message(replaced(good, "manifest", "manifes")).find("line 2"), std::string::npos);
  EXPECT_NE(message(replaced(good, "data ", "date ")).find("line 3"), std::string::npos);
  EXPECT_NE(message(good + "date x\n").find("line 4"), std::string::npos);
  EXPECT_NE(message("imsy-anchor 1\n").find("line 2"), std::string::npos);
  EXPECT_NE(message("").find("line 1"), std::string::npos);
}

TEST(AnchorTest, UnknownVersionIsNamed) {
  const auto parsed = Anchor::parse(replaced(sample().to_text(), "anchor 1", "anchor 2"));
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code(), Errc::kInvalid);
  EXPECT_NE(parsed.error().message().find("version \"2\""), std::string::npos);
}

TEST(AnchorTest, AHostileVersionCannotForgeALogLine) {
  const auto parsed = Anchor::parse("imsy-anchor \x1b[31m\r\n");
  ASSERT_FALSE(parsed);
  for (const char c : parsed.error().message()) EXPECT_GE(static_cast<unsigned char>(c), 0x20);
}

TEST(AnchorTest, ContradictionsAreRefused) {
  const auto refused = [](auto change) {
    Anchor anchor = sample();
    change(anchor);
    return !anchor.validate() && !Anchor::parse(anchor.to_text());
  };
  constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();
  EXPECT_TRUE(refused([](Anchor& a) { a.data_layers.clear(); }));
  EXPECT_TRUE(refused([](Anchor& a) { a.manifest_layer = 1; }));
  EXPECT_TRUE(refused([](Anchor& a) { a.header_size = 0; }));
  EXPECT_TRUE(refused([](Anchor& a) { a.header_size = 4001; }));
  EXPECT_TRUE(refused([](Anchor& a) { a.manifest_offset = 123457; }));
  EXPECT_TRUE(refused([](Anchor& a) { a.manifest_offset = kMax; }));
  EXPECT_TRUE(refused([](Anchor& a) { a.manifest_size = kMax; }));
  EXPECT_TRUE(refused([](Anchor& a) { a.data_layers[0].size = 0; }));
  EXPECT_FALSE(refused([](Anchor& a) { a.header_size = 4000; }));
}

TEST(AnchorTest, HasALengthLimitThatFitsAnAnnotation) {
  Anchor anchor = sample();
  while (anchor.validate()) anchor.data_layers.push_back(anchor.data_layers.front());
  EXPECT_GT(anchor.to_text().size(), kAnchorTextLimit);
  EXPECT_FALSE(Anchor::parse(anchor.to_text()));
  anchor.data_layers.pop_back();
  EXPECT_GE(anchor.data_layers.size(), 22u);
  EXPECT_TRUE(Anchor::parse(anchor.to_text()));
  EXPECT_LT(kAnchorTextLimit + std::string_view("containerd.io/snapshot/imsy.anchor").size(),
            4096u);
  EXPECT_FALSE(Anchor::parse(text_of(std::string(5000, 'x'), "")));
}

// Expected values from sha256sum over "<parent> <diffID>", as the OCI image-spec defines it.
TEST(ChainIdTest, FollowsTheImageSpec) {
  const Digest first = sha256("layer 1");
  EXPECT_EQ(chain_id(first, sha256("layer 2")).to_string(),
            "sha256:331cf69a5e42a61e3645ccd6f7963c333d64ca1f850f6190d98a6ad75c7606de");
  EXPECT_EQ(chain_id(chain_id(first, sha256("layer 2")), sha256("layer 3")).to_string(),
            "sha256:e98ce6bf1cf401b5454f040d3c54010716976289963493c43fc37108ab19d384");
}

}  // namespace
}  // namespace imsy::cdc
