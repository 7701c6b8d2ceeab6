#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "oci/decompress.h"
#include "oci/gzip_writer.h"
#include "tests/unit/oci/tar_bytes.h"

namespace imsy::oci {
namespace {

struct Collected : ByteWriter {
  Status write(ByteSpan data) override {
    if (full) return Error(Errc::kNoSpace, "full");
    text += as_text(data);
    return {};
  }
  std::string text;
  bool full = false;
};

std::string sample() {
  std::string text;
  for (int i = 0; text.size() < 3'000'000; ++i) text += std::to_string(i * i % 9973) + " ";
  return text;
}

std::string compress(const std::string& text, std::size_t step) {
  Collected output;
  GzipWriter gzip(output);
  for (std::size_t at = 0; at < text.size(); at += step) {
    EXPECT_TRUE(gzip.write(as_bytes(std::string_view(text).substr(at, step))));
  }
  EXPECT_TRUE(gzip.finish());
  return output.text;
}

TEST(Gzip, IsReadAgain) {
  for (const std::string& text : {std::string(), std::string("x"), sample()}) {
    StringReader input(compress(text, 100'000));
    const auto plain = std::move(decompress(input).value().content);
    std::string found(text.size(), '\0');
    ASSERT_TRUE(read_exactly(*plain, std::as_writable_bytes(std::span(found))));
    EXPECT_TRUE(found == text);
    std::byte more{};
    EXPECT_EQ(plain->read({&more, 1}).value(), 0u);
  }
}

TEST(Gzip, DoesNotDependOnHowItIsWritten) {
  const std::string once = compress(sample(), 3'000'000);
  EXPECT_TRUE(compress(sample(), 777) == once);
  // No name, no time.
  EXPECT_EQ(once.substr(0, 8), std::string("\x1f\x8b\x08\0\0\0\0\0", 8));
}

TEST(Gzip, PassesOnWhatItsOutputSays) {
  Collected output;
  output.full = true;
  GzipWriter gzip(output);
  const Status written = gzip.write(as_bytes("little"));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), Errc::kNoSpace);
}

}  // namespace
}  // namespace imsy::oci
