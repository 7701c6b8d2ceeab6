// Layers that ask for too much: refused at the limit, before memory or time is spent on them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <isa-l/igzip_lib.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/converter/layer_images.h"
#include "tests/unit/oci/tar_bytes.h"

namespace imsy::converter {
namespace {

using oci::tar::Block;
using oci::tar::end;
using oci::tar::entry;
using oci::tar::octal;
using oci::tar::pax;
using oci::tar::record;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::LayerBytes;
using testing_support::LayerConversion;

class LayerLimit : public testing::Test {
 protected:
  // The refusal of layers under the usual limits, or changed ones.
  std::string refusal(const std::vector<std::string>& tars) {
    std::vector<LayerBytes> layers;
    for (const auto& tar : tars) layers.push_back(LayerBytes::tar(tar + end()));
    return conversion_.refusal(std::move(layers), options_);
  }
  InputLimits& limits() { return options_.input.limits; }

  LayerConversion conversion_;
  ConvertOptions options_ = LayerConversion::fast();
};

// As dense as deflate can be: 1031 zeros in a byte.
std::string gzip_zeros(std::size_t size) {
  std::string in(size, '\0');
  std::string out(size / 500 + 1024, '\0');
  std::string memory(ISAL_DEF_LVL1_DEFAULT, '\0');
  isal_zstream stream{};
  isal_deflate_init(&stream);
  stream.level = 1;
  stream.level_buf = reinterpret_cast<std::uint8_t*>(memory.data());
  stream.level_buf_size = static_cast<std::uint32_t>(memory.size());
  stream.gzip_flag = IGZIP_GZIP;
  stream.end_of_stream = 1;
  stream.next_in = reinterpret_cast<std::uint8_t*>(in.data());
  stream.avail_in = static_cast<std::uint32_t>(in.size());
  stream.next_out = reinterpret_cast<std::uint8_t*>(out.data());
  stream.avail_out = static_cast<std::uint32_t>(out.size());
  EXPECT_EQ(isal_deflate(&stream), COMP_OK);
  out.resize(stream.total_out);
  return out;
}

TEST_F(LayerLimit, TenGigabytesOfZerosAreRefusedByTheirRatio) {
  const std::string member = gzip_zeros(64u << 20);
  std::string blob;
  for (int i = 0; i < 160; ++i) blob += member;  // 10 GiB
  EXPECT_LT(blob.size(), 11u << 20);
  const auto layer = LayerBytes::of(blob, "", oci::media_type::kOciLayerGzip);
  EXPECT_THAT(conversion_.refusal({layer}, options_),
              AllOf(HasSubstr("layer " + layer.descriptor.digest.to_string()),
                    HasSubstr("more than the limit of 1000 times")));
}

TEST_F(LayerLimit, AllLayersTogetherAreBounded) {
  limits().inflated.output = 10'000;
  const std::string five = entry("a", std::string(3'000, 'x'));  // with its header and end
  EXPECT_EQ(refusal({five, five}), "");
  EXPECT_THAT(refusal({five, five, five}),
              AllOf(HasSubstr("layer sha256:"), HasSubstr("the limit of 10000 bytes"),
                    HasSubstr("together with what came before it")));
}

TEST_F(LayerLimit, ContentsThatAreNotInTheArchiveAreBoundedToo) {
  limits().inflated.output = 1'000'000;
  const auto sparse = [](const std::string& name, std::uint64_t size) {
    return pax(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
               record("GNU.sparse.realsize", std::to_string(size))) +
           entry(name, std::string("1\n0\n1\n").append(506, '\0') + "x");
  };
  EXPECT_EQ(refusal({sparse("a", 600'000)}), "");
  EXPECT_THAT(refusal({sparse("a", 600'000) + sparse("b", 600'000)}),
              AllOf(HasSubstr("entry b"), HasSubstr("the limit of 1000000 bytes")));
}

TEST_F(LayerLimit, EveryEntryCountsAlsoTheDroppedOnes) {
  limits().tree.entries = 4;
  const std::vector<std::string> four = {
      entry("a", "") + entry("b", "") + entry("c", "") + entry("d", ""),
      entry(".wh.a", "") + entry(".wh.b", "") + entry("x/.wh..wh..opq", ""),  // and x
      entry("a", "") + entry("a", "") + entry("a", "") + entry("a", ""),
      entry("stargz.index.json", "") + entry(".wh..wh.orph", "") + entry("d/.wh..wh.plnk/1", "") +
          Block("./", '5').str(),
      entry("implied/by/this/file", "")};
  for (const auto& tar : four) {
    EXPECT_EQ(refusal({tar}), "");
    EXPECT_THAT(refusal({tar, entry("one/more", "")}),
                AllOf(HasSubstr("entry \"one/more\""), HasSubstr("the limit of 4")));
  }
}

TEST_F(LayerLimit, NamesTargetsAndAttributesAreBoundedTogether) {
  limits().tree.text_bytes = 1'000;
  const std::string big(600, 'v');
  EXPECT_EQ(refusal({pax(record("SCHILY.xattr.user.a", big)) + entry("a", "")}), "");
  EXPECT_THAT(refusal({pax(record("SCHILY.xattr.user.a", big)) + entry("a", "") +
                       pax(record("path", big)) + entry("b", "")}),
              AllOf(HasSubstr("extended attributes of the image"), HasSubstr("the limit of 1000")));
  // Also when the entry goes again.
  EXPECT_THAT(refusal({pax(record("SCHILY.xattr.user.a", big)) + entry("a", ""),
                       entry(".wh.a", "") + pax(record("linkpath", big)) + Block("l", '2').str()}),
              HasSubstr("the limit of 1000"));
}

TEST_F(LayerLimit, ExtendedHeadersAreBounded) {
  EXPECT_THAT(refusal({pax(record("comment", std::string(1u << 20, 'c'))) + entry("a", "")}),
              AllOf(HasSubstr("extended header"), HasSubstr("the limit of 1048576")));
  EXPECT_THAT(refusal({oci::tar::gnu_long(std::string(1u << 20, 'n')) + entry("a", "")}),
              AllOf(HasSubstr("extended header"), HasSubstr("the limit of 1048576")));
}

// Gives blocks that `make` makes for ever, and counts them.
class EndlessBlocks : public ByteReader {
 public:
  using Make = std::function<std::string(std::uint64_t number)>;
  EndlessBlocks(Make make, std::shared_ptr<std::uint64_t> given)
      : make_(std::move(make)), given_(std::move(given)) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    if (rest_.empty()) rest_ = make_((*given_)++);
    const std::size_t count = std::min(buffer.size(), rest_.size());
    std::copy_n(as_bytes(rest_).begin(), count, buffer.begin());
    rest_.erase(0, count);
    return count;
  }

 private:
  const Make make_;
  const std::shared_ptr<std::uint64_t> given_;
  std::string rest_;
};

// A sparse map that goes on and on in blocks of 21 regions: ten million would be a quarter of a
// gigabyte in memory.
TEST_F(LayerLimit, AnEndlessSparseMapIsNotReadOn) {
  const auto block = [](std::uint64_t number) {
    if (number == 0) {
      Block header("s", 'S', 0);
      header.gnu().put(483, octal(std::uint64_t{1} << 33, 12));
      for (std::size_t i = 0; i < 4; ++i) {
        header.put(386 + 24 * i, octal(i, 12) + octal(0, 12));
      }
      return header.put(482, "\1").str();
    }
    std::string area;
    for (int i = 0; i < 21; ++i) area += octal(number * 21, 12) + octal(0, 12);
    return area + "\1" + std::string(7, '\0');
  };
  const auto given = std::make_shared<std::uint64_t>(0);
  LayerBytes layer = LayerBytes::tar("");
  layer.descriptor.digest = sha256("endless");
  layer.descriptor.size = std::uint64_t{1} << 40;
  layer.open = [&] { return std::make_unique<EndlessBlocks>(block, given); };
  EXPECT_THAT(
      conversion_.refusal({layer}, options_),
      AllOf(HasSubstr("\"s\""), HasSubstr("sparse map is longer than the limit of 1048576")));
  EXPECT_LT(*given, (16u << 20) / 512) << "no more than what is read ahead";
}

TEST_F(LayerLimit, DeepNestingIsRefusedBeforeAnythingIsMadeOfIt) {
  std::string deep;
  for (int i = 0; i < 1024; ++i) deep += "d/";
  EXPECT_THAT(refusal({pax(record("path", deep + "f")) + entry("x", "")}),
              AllOf(HasSubstr("nested more deeply than the limit of 1024")));
}

TEST_F(LayerLimit, PathsMustNotTakeForEver) {
  limits().tree.steps = 1'000;
  std::string tar = Block("d/", '5').str();
  for (int i = 0; i < 100; ++i) {
    const std::string number = std::to_string(i);
    tar += Block("l" + number, '2').link(i == 0 ? "d" : "l" + std::to_string(i - 1)).str();
  }
  EXPECT_EQ(refusal({tar}), "");
  for (int i = 0; i < 20; ++i) tar += entry("l99/f" + std::to_string(i), "");
  EXPECT_THAT(refusal({tar}), HasSubstr("more steps to resolve than the limit of 1000"));
}

TEST_F(LayerLimit, ContentOfARefusedEntryIsNotRead) {
  const auto given = std::make_shared<std::uint64_t>(0);
  const auto block = [](std::uint64_t number) {
    if (number > 0) return std::string(512, 'x');
    return Block("../outside", '0').put(124, octal(std::uint64_t{1} << 32, 12)).str();
  };
  LayerBytes layer = LayerBytes::tar("");
  layer.descriptor.digest = sha256("endless");
  layer.descriptor.size = std::uint64_t{1} << 40;
  layer.open = [&] { return std::make_unique<EndlessBlocks>(block, given); };
  EXPECT_THAT(conversion_.refusal({layer}, options_), HasSubstr("\"..\""));
  EXPECT_LT(*given, (16u << 20) / 512) << "no more than what is read ahead";
}

}  // namespace
}  // namespace imsy::converter
