// Layers that are larger than memory. Each case takes minutes, hence the label "long".
//
// Every case runs in a process of its own, so the peak of its memory is that of one conversion.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "tests/unit/converter/layer_images.h"
#include "tests/unit/oci/tar_bytes.h"

namespace imsy::converter {
namespace {

using oci::tar::Block;
using oci::tar::end;
using oci::tar::octal;
using oci::tar::pax;
using oci::tar::record;
using testing::AllOf;
using testing::HasSubstr;
using testing_support::LayerBytes;
using testing_support::LayerConversion;

constexpr std::uint64_t kNineGiB = std::uint64_t{9} << 30;
constexpr std::uint64_t kMemory = 256u << 20;  // whatever is converted
constexpr std::uint64_t kMemoryPerFile = 300;

// A stream of pieces: text, or zeros with a mark in every 64 MiB.
class Pieces : public ByteReader {
 public:
  Pieces(std::string head, std::uint64_t content, std::string tail)
      : head_(std::move(head)), content_(content), tail_(std::move(tail)) {}

  Result<std::size_t> read(std::span<std::byte> buffer) override {
    if (place_ < head_.size()) return copy(head_, place_, buffer);
    const std::uint64_t inside = place_ - head_.size();
    if (inside >= content_) return copy(tail_, inside - content_, buffer);
    const auto count =
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), content_ - inside));
    fill(inside, buffer.first(count));
    place_ += count;
    return count;
  }

  // Content from `offset` on: its own number in front of every 64 MiB, else zeros.
  static void fill(std::uint64_t offset, std::span<std::byte> buffer) {
    constexpr std::uint64_t kEvery = 64u << 20;
    std::memset(buffer.data(), 0, buffer.size());
    const std::uint64_t first = (offset + kEvery - 1) / kEvery * kEvery;
    for (std::uint64_t at = first; at < offset + buffer.size(); at += kEvery) {
      buffer[static_cast<std::size_t>(at - offset)] = static_cast<std::byte>(at / kEvery + 1);
    }
  }

 private:
  std::size_t copy(const std::string& from, std::uint64_t at, std::span<std::byte> buffer) {
    const auto begin = static_cast<std::size_t>(at);
    const std::size_t count = std::min(buffer.size(), from.size() - begin);
    std::copy_n(as_bytes(from).begin() + static_cast<std::ptrdiff_t>(begin), count, buffer.begin());
    place_ += count;
    return count;
  }

  const std::string head_;
  const std::uint64_t content_;
  const std::string tail_;
  std::uint64_t place_ = 0;
};

struct Measured {
  Digest digest;
  std::uint64_t size = 0;
};

Measured measure(ByteReader& input) {
  Bytes buffer(1u << 20);
  Hasher hasher;
  Measured measured;
  for (;;) {
    const std::size_t got = input.read(buffer).value();
    if (got == 0) break;
    hasher.update(std::span(buffer).first(got));
    measured.size += got;
  }
  measured.digest = hasher.finish();
  return measured;
}

// The file "big" of the converted image.
Measured converted_file(LayerConversion& conversion) {
  Measured found;
  conversion.visit_files([&](const oci::tar::Header& header, ByteReader& content) {
    EXPECT_EQ(header.name, "big");
    EXPECT_EQ(header.size, kNineGiB);
    found = measure(content);
  });
  return found;
}

TEST(LargeLayer, NineGigabytesInOneFile) {
  const std::string head = pax(record("size", std::to_string(kNineGiB))) + Block("big").str();
  LayerBytes layer;
  layer.open = [&] { return std::make_unique<Pieces>(head, kNineGiB, end()); };
  layer.descriptor.media_type = oci::media_type::kOciLayer;
  const Measured whole = measure(*layer.open());
  layer.descriptor.digest = layer.diff_id = whole.digest;
  layer.descriptor.size = whole.size;

  LayerConversion conversion;
  ASSERT_EQ(conversion.refusal({layer}), "");
  Pieces expected("", kNineGiB, "");
  EXPECT_EQ(converted_file(conversion).digest, measure(expected).digest);
  EXPECT_LT(testing_support::peak_memory(), kMemory);
}

TEST(LargeLayer, NineGigabytesOfHoles) {
  const std::string map = "1\n" + std::to_string(kNineGiB - 3) + "\n3\n";
  const std::string content = oci::tar::padded(map) + "end";
  const std::string tar = pax(record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") +
                              record("GNU.sparse.name", "big") +
                              record("GNU.sparse.realsize", std::to_string(kNineGiB))) +
                          oci::tar::entry("GNUSparseFile.0/big", content) + end();
  LayerConversion conversion;
  ASSERT_EQ(conversion.refusal({LayerBytes::tar(tar)}), "");

  class Holes : public ByteReader {
   public:
    Result<std::size_t> read(std::span<std::byte> buffer) override {
      const auto count =
          static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), kNineGiB - place_));
      std::memset(buffer.data(), 0, count);
      for (std::size_t i = 0; i < 3; ++i) {
        const std::uint64_t at = kNineGiB - 3 + i;
        if (at >= place_ && at < place_ + count) {
          buffer[static_cast<std::size_t>(at - place_)] = static_cast<std::byte>("end"[i]);
        }
      }
      place_ += count;
      return count;
    }

   private:
    std::uint64_t place_ = 0;
  } expected;
  EXPECT_EQ(converted_file(conversion).digest, measure(expected).digest);
  EXPECT_LT(testing_support::peak_memory(), kMemory);
}

// Twenty million empty files: never more of them than the limit are kept.
class ManyFiles : public ByteReader {
 public:
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    if (used_ == block_.size()) {
      if (number_ == 20'000'000) return std::size_t{0};
      block_ =
          Block("files/" + std::to_string(number_ / 1000) + "/" + std::to_string(number_)).str();
      ++number_;
      used_ = 0;
    }
    const std::size_t count = std::min(buffer.size(), block_.size() - used_);
    std::copy_n(as_bytes(block_).begin() + static_cast<std::ptrdiff_t>(used_), count,
                buffer.begin());
    used_ += count;
    return count;
  }

 private:
  std::string block_;
  std::size_t used_ = 0;
  std::uint64_t number_ = 0;
};

TEST(LargeLayer, TwentyMillionFilesAreRefusedAtTheLimit) {
  LayerBytes layer = LayerBytes::tar("");
  layer.descriptor.digest = sha256("never read to its end");
  layer.descriptor.size = 20'000'000 * std::uint64_t{512};
  layer.open = [] { return std::make_unique<ManyFiles>(); };
  LayerConversion conversion;
  EXPECT_THAT(conversion.refusal({layer}),
              AllOf(HasSubstr("entry \"files/499"), HasSubstr("the limit of 5000000")));
  EXPECT_LT(testing_support::peak_memory(), kMemory + 5'000'000 * kMemoryPerFile);
}

}  // namespace
}  // namespace imsy::converter
