// Layers byte by byte, all the way: what is converted has exactly the tree that is written down
// here, and of what is refused nothing is pushed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/unit/converter/layer_images.h"
#include "tests/unit/oci/tar_bytes.h"

namespace imsy::converter {
namespace {

using oci::tar::Block;
using oci::tar::end;
using oci::tar::entry;
using oci::tar::gnu_long;
using oci::tar::octal;
using oci::tar::padded;
using oci::tar::pax;
using oci::tar::record;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::LayerBytes;
using testing_support::LayerConversion;

constexpr std::string_view kGzip = oci::media_type::kOciLayerGzip;
constexpr std::string_view kZstd = oci::media_type::kOciLayerZstd;

std::string gzip(const std::string& text) {
  std::string out(text.size() + 1024, '\0');
  isal_zstream stream{};
  isal_deflate_stateless_init(&stream);
  stream.gzip_flag = IGZIP_GZIP;
  stream.end_of_stream = 1;
  std::string in = text;
  stream.next_in = reinterpret_cast<std::uint8_t*>(in.data());
  stream.avail_in = static_cast<std::uint32_t>(in.size());
  stream.next_out = reinterpret_cast<std::uint8_t*>(out.data());
  stream.avail_out = static_cast<std::uint32_t>(out.size());
  EXPECT_EQ(isal_deflate_stateless(&stream), COMP_OK);
  out.resize(stream.total_out);
  return out;
}

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  const std::size_t size = ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 1);
  EXPECT_FALSE(ZSTD_isError(size));
  out.resize(size);
  return out;
}

std::string skippable(const std::string& content) {
  Bytes bytes;
  append_le(bytes, std::uint32_t{0x184D2A50});
  append_le(bytes, static_cast<std::uint32_t>(content.size()));
  return std::string(as_text(bytes)) + content;
}

std::string directory(std::string_view name) {
  return Block(name, '5').str();
}
std::string link(std::string_view name, std::string_view target, char type = '1') {
  return Block(name, type).link(target).str();
}

// Text that compresses a little.
std::string sample(std::size_t size) {
  std::string text;
  for (std::uint32_t i = 1; text.size() < size; i = i * 1664525 + 1013904223) {
    text += std::to_string(i % 100'000) + " ";
  }
  text.resize(size);
  return text;
}

class Layers : public testing::Test {
 protected:
  std::vector<std::string> tree(const std::vector<std::string>& tars) {
    std::vector<LayerBytes> layers;
    for (const auto& tar : tars) layers.push_back(LayerBytes::tar(tar + end()));
    return conversion_.tree(std::move(layers));
  }
  std::string refusal(const std::string& tar) {
    return conversion_.refusal({LayerBytes::tar(tar)});
  }
  std::string refusal_of(const std::string& blob, std::string_view plain, std::string_view type) {
    return conversion_.refusal({LayerBytes::of(blob, plain, type)});
  }

  LayerConversion conversion_;
};

// --- compression ---

class CompressedLayers : public Layers {
 protected:
  const std::string tar_ = entry("a", sample(20'000)) + entry("b", "b") + end();
};

TEST_F(CompressedLayers, GzipInThreeMembersIsOneLayer) {
  const std::string three = gzip(tar_.substr(0, 700)) + gzip("") + gzip(tar_.substr(700, 9'000)) +
                            gzip(tar_.substr(9'700));
  EXPECT_THAT(conversion_.tree({LayerBytes::of(three, tar_, kGzip)}),
              ElementsAre("a=" + sample(20'000), "b=b"));
}

TEST_F(CompressedLayers, GzipCutAnywhereIsRefused) {
  const std::string whole = gzip(tar_);
  for (std::size_t i = 0; i < 50; ++i) {
    const std::size_t size = 4 + (whole.size() - 5) * i / 49;
    EXPECT_THAT(refusal_of(whole.substr(0, size), tar_, kGzip),
                AllOf(HasSubstr("layer sha256:"), HasSubstr("gzip: the stream ends")))
        << size;
  }
}

TEST_F(CompressedLayers, DamagedGzipIsRefused) {
  const std::string good = gzip(tar_);
  EXPECT_THAT(refusal_of(good + "junk", tar_, kGzip), HasSubstr("gzip: "));
  EXPECT_THAT(refusal_of(good + std::string(512, '\0'), tar_, kGzip), HasSubstr("junk"));
  for (const std::size_t back : {1u, 5u}) {  // in the size, in the CRC
    std::string bad = good;
    bad[bad.size() - back] = static_cast<char>(bad[bad.size() - back] ^ 1);
    EXPECT_THAT(refusal_of(bad, tar_, kGzip), HasSubstr("checksum or size"));
  }
}

TEST_F(CompressedLayers, ZstdInSeveralFramesWithSkippableOnesIsOneLayer) {
  const std::string blob = skippable("before") + zstd(tar_.substr(0, 5'000)) + skippable("") +
                           zstd(tar_.substr(5'000)) + skippable("behind");
  EXPECT_THAT(conversion_.tree({LayerBytes::of(blob, tar_, kZstd)}),
              ElementsAre("a=" + sample(20'000), "b=b"));
}

TEST_F(CompressedLayers, ZstdThatNeedsTooMuchOrLiesIsRefused) {
  const std::string magic("\x28\xb5\x2f\xfd", 4);
  const std::string block("\x29\0\0hello", 8);
  const auto refused = [&](const std::string& blob) { return refusal_of(blob, "hello", kZstd); };
  EXPECT_THAT(refused(magic + std::string("\0\xa8", 2) + block), HasSubstr("zstd: "));  // 2^31
  EXPECT_THAT(refused(magic + "\1\x38\x2a" + block), HasSubstr("ictionary"));
  // A content size of 2^60 is believed by nobody: no memory is taken, and the frame is corrupt.
  const std::string lie("\xc0\x38\5\0\0\0\0\0\0\x10", 10);
  EXPECT_THAT(refused(magic + lie + block), HasSubstr("zstd: "));
  const std::string whole = zstd(tar_);
  for (std::size_t i = 0; i < 20; ++i) {
    const std::size_t size = 5 + (whole.size() - 6) * i / 19;
    EXPECT_THAT(refusal_of(whole.substr(0, size), tar_, kZstd), HasSubstr("zstd: the stream ends"));
  }
}

TEST_F(CompressedLayers, WhatIsCompressedTwiceOrNoTarIsRefused) {
  EXPECT_THAT(refusal_of(gzip(zstd(tar_)), zstd(tar_), kGzip), HasSubstr("tar entry"));
  const std::string page = "<html>" + sample(2'000);
  EXPECT_THAT(refusal_of(page, page, kGzip), HasSubstr("tar entry"));
}

// --- labels ---

TEST_F(CompressedLayers, EachWrongLabelIsNamed) {
  const LayerBytes right = LayerBytes::of(gzip(tar_), tar_, kGzip);
  ASSERT_EQ(conversion_.refusal({right}), "");

  LayerBytes wrong = right;
  wrong.descriptor.digest = sha256("other");
  EXPECT_THAT(conversion_.refusal({wrong}),
              AllOf(HasSubstr(sha256("other").to_string()), HasSubstr("another digest")));
  wrong = right;
  wrong.diff_id = sha256("other");
  EXPECT_THAT(conversion_.refusal({wrong}),
              AllOf(HasSubstr("layer " + right.descriptor.digest.to_string()),
                    HasSubstr("diffID " + right.diff_id.to_string()),
                    HasSubstr(sha256("other").to_string())));
  for (const int difference : {-1, 1}) {
    wrong = right;
    wrong.descriptor.size += static_cast<std::uint64_t>(difference);
    EXPECT_THAT(conversion_.refusal({wrong}),
                HasSubstr(difference < 0 ? "it has more than" : "it has fewer than"));
  }
  for (const char* type :
       {"application/vnd.oci.image.layer.v1.tar", "text/html", "application/octet-stream",
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/vnd.oci.image.layer.nydus.blob.v1"}) {
    wrong = right;
    wrong.descriptor.media_type = type;
    EXPECT_THAT(conversion_.refusal({wrong}), HasSubstr("media type")) << type;
  }
}

// Tools write such labels, and whoever unpacks the layers looks at the content.
TEST_F(CompressedLayers, AnotherCompressionThanTheLabelSaysIsRead) {
  const auto expected = ElementsAre("a=" + sample(20'000), "b=b");
  EXPECT_THAT(conversion_.tree({LayerBytes::of(tar_, tar_, kGzip)}), expected);
  EXPECT_THAT(conversion_.tree({LayerBytes::of(zstd(tar_), tar_, kGzip)}), expected);
  EXPECT_THAT(conversion_.tree({LayerBytes::of(gzip(tar_), tar_,
                                               "application/vnd.docker.image.rootfs.diff.tar")}),
              expected);
}

TEST_F(Layers, BytesBehindTheEndCountForTheDiffId) {
  const std::string tar = entry("a", "a") + end() + "anything" + entry("b", "b") + end();
  EXPECT_THAT(conversion_.tree({LayerBytes::tar(tar)}), ElementsAre("a=a"));
  LayerBytes cut = LayerBytes::tar(tar);
  cut.diff_id = sha256(entry("a", "a") + end());
  EXPECT_THAT(conversion_.refusal({cut}), HasSubstr("diffID"));
}

// --- one interpretation ---

// An archive inside a file, and headers that disagree about where the file ends.
TEST_F(Layers, ASmuggledArchiveStaysTheContentOfItsFile) {
  const std::string inner = entry("smuggled", "x");
  const std::string by_pax =
      pax(record("size", std::to_string(inner.size()))) + Block("outer", '0', 0).str() + inner;
  EXPECT_THAT(tree({by_pax}), ElementsAre("outer=" + inner));
  const std::string by_global =
      pax(record("size", "0") + record("path", "other"), 'g') + entry("outer", inner);
  EXPECT_THAT(tree({by_global}), ElementsAre("outer=" + inner));
  // A hard link has no content whatever it says: the next block is a header.
  const std::string after_link =
      entry("f", "f") + Block("l", '1', inner.size()).link("f").str() + inner;
  EXPECT_THAT(tree({after_link}), ElementsAre("f=f", "l=>f", "smuggled=x"));
}

TEST_F(Layers, NamesFromSeveralHeadersAreReadAsByGo) {
  EXPECT_THAT(tree({pax(record("path", "p1")) + gnu_long("p2") + entry("p3", "x")}),
              ElementsAre("p2=x"));
  EXPECT_THAT(tree({gnu_long("p2") + pax(record("path", "p1")) + entry("p3", "x")}),
              ElementsAre("p2=x"));
  EXPECT_THAT(tree({pax(record("path", "p1")) + pax(record("mtime", "1")) + entry("p3", "x")}),
              ElementsAre("p3=x"));
  EXPECT_THAT(refusal(entry("a", "a") + pax(record("path", "b")) + end()),
              HasSubstr("extended header without its entry"));
}

TEST_F(Layers, NumbersBeyondWhatAFileCanHaveAreRefused) {
  const auto with = [](std::size_t offset, const std::string& field) {
    return Block("odd").put(offset, field).str() + end();
  };
  EXPECT_THAT(refusal(with(124, oci::tar::base256(-1, 12))), HasSubstr("its size is negative"));
  EXPECT_THAT(refusal(with(108, oci::tar::base256(-1, 8))), HasSubstr("owner"));
  EXPECT_THAT(refusal(with(108, oci::tar::base256(std::int64_t{1} << 32, 8))), HasSubstr("owner"));
  EXPECT_THAT(refusal(with(124, "12345678junk")), HasSubstr("layer sha256:"));
  EXPECT_THAT(refusal(Block("odd").str().replace(148, 6, "000001") + end()), HasSubstr("checksum"));
}

// --- the order of entries ---

// Every order of one layer's entries over a lower layer gives the same data layer.
class LayerOrders : public Layers {
 protected:
  void expect_one_tree(const std::vector<std::string>& lower, std::vector<std::string> upper,
                       const std::vector<std::string>& expected) {
    std::string below;
    for (const auto& part : lower) below += part;
    std::sort(upper.begin(), upper.end());
    std::optional<Digest> first;
    do {
      std::string tar;
      for (const auto& part : upper) tar += part;
      std::vector<LayerBytes> layers = {LayerBytes::tar(below + end()),
                                        LayerBytes::tar(tar + end())};
      const Digest digest = conversion_.data_layer(layers);
      if (!first) {
        EXPECT_EQ(conversion_.tree(layers), expected);
      }
      first = first.value_or(digest);
      ASSERT_EQ(digest, *first) << "another order gives another layer";
    } while (std::next_permutation(upper.begin(), upper.end()));
  }

  const std::vector<std::string> lower_ = {directory("d/"), entry("d/x", "old"), directory("d/s/"),
                                           entry("d/s/y", "old"), entry("keep", "k")};
};

TEST_F(LayerOrders, WhiteoutsBesideWhatTheyName) {
  expect_one_tree(
      lower_,
      {entry("d/.wh.x", ""), entry("d/x", "new"), entry("d/.wh.s", ""), entry("d/s/n", "new")},
      {"d/", "d/s/", "d/s/n=new", "d/x=new", "keep=k"});
}

TEST_F(LayerOrders, OpaqueMarkersAndImpliedParents) {
  expect_one_tree(lower_,
                  {entry("d/.wh..wh..opq", ""), entry("d/x", "new"), entry("d/s/t/deep", "new"),
                   directory("d/")},
                  {"d/", "d/s/", "d/s/t/", "d/s/t/deep=new", "d/x=new", "keep=k"});
}

TEST_F(LayerOrders, MarkersWithinWhatIsHidden) {
  expect_one_tree(lower_,
                  {entry(".wh.d", ""), entry("d/.wh..wh..opq", ""), entry("d/s/.wh.y", ""),
                   entry("d/s/n", "new")},
                  {"d/", "d/s/", "d/s/n=new", "keep=k"});
}

TEST_F(LayerOrders, LinksToWhatIsHidden) {
  expect_one_tree(lower_,
                  {entry("d/.wh.x", ""), link("l", "d/x"), entry(".wh.keep", ""), link("m", "keep"),
                   entry("d/s/.wh..wh..opq", "")},
                  {"d/", "d/s/", "l=old", "m=k"});
}

// --- what others keep in their layers ---

// zstd:chunked: each file a frame, and behind them the index, tar-split data and a footer in
// skippable frames.
TEST_F(Layers, OfZstdChunkedHaveNothingButTheirFiles) {
  const std::string head = entry("a", "a");
  const std::string tail = entry("b", "b") + end();
  const std::string blob = zstd(head) + zstd(tail) + skippable(zstd("{\"version\":1}")) +
                           skippable(zstd("{\"type\":2,\"payload\":\"\"}")) +
                           skippable(std::string(64, '\1') + "GNUlInUx");
  EXPECT_THAT(conversion_.tree({LayerBytes::of(blob, head + tail, kZstd)}),
              ElementsAre("a=a", "b=b"));
}

// eStargz: the index is the last file, and a mark says what to fetch first; each in a member.
TEST_F(Layers, OfEStargzLoseTheirIndexAndMarks) {
  const std::string files = entry("a", "a") + entry(".prefetch.landmark", "\xf") + entry("b", "b");
  const std::string index = entry("stargz.index.json", R"({"version":1,"entries":[]})") + end();
  EXPECT_THAT(conversion_.tree({LayerBytes::of(gzip(files) + gzip(index), files + index, kGzip)}),
              ElementsAre("a=a", "b=b"));
  EXPECT_EQ(conversion_.report().images[0].warnings.dropped_indexes, 2u);
  EXPECT_THAT(tree({entry("./stargz.index.json", "{}") + entry("/.no.prefetch.landmark", "\xf")}),
              ElementsAre());
}

TEST_F(Layers, FilesOfSuchNamesElsewhereStay) {
  EXPECT_THAT(tree({entry("opt/stargz.index.json", "mine") + entry("opt/.prefetch.landmark", "x") +
                    directory(".no.prefetch.landmark/")}),
              ElementsAre(".no.prefetch.landmark/", "opt/", "opt/.prefetch.landmark=x",
                          "opt/stargz.index.json=mine"));
}

// --- sparse files ---

TEST_F(Layers, SparseMapsThatLieAreRefused) {
  const auto form = [](const std::string& map, const std::string& size, int pairs) {
    return pax(record("GNU.sparse.numblocks", std::to_string(pairs)) +
               record("GNU.sparse.size", size) + record("GNU.sparse.map", map)) +
           entry("s", "0123456789") + end();
  };
  EXPECT_THAT(tree({form("2,4,10,6", "20", 2)}),
              ElementsAre("s=" + std::string(2, '\0') + "0123" + std::string(4, '\0') + "456789" +
                          std::string(4, '\0')));
  EXPECT_THAT(refusal(form("0,5,3,5", "20", 2)), HasSubstr("sparse map"));   // overlap
  EXPECT_THAT(refusal(form("0,5,16,5", "20", 2)), HasSubstr("sparse map"));  // past the end
  EXPECT_THAT(refusal(form("0,5,10,4", "20", 2)), HasSubstr("sparse map"));  // too little
  EXPECT_THAT(refusal(form("5,5,0,5", "20", 2)), HasSubstr("sparse map"));   // out of order
  EXPECT_THAT(refusal(form("0,5,10,5", "20", 3)), HasSubstr("sparse map"));
  EXPECT_THAT(refusal(form("0,10", "-1", 1)), HasSubstr("sparse"));
  EXPECT_THAT(refusal(form("0,10", "9223372036854775807", 1)), HasSubstr("the limit of"));
}

}  // namespace
}  // namespace imsy::converter
