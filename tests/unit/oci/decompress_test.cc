// Decompressing readers: all that gzip and zstd allow, and none of what they do not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <optional>
#include <string>
#include <vector>

#include "oci/decompress.h"
#include "tests/unit/oci/tar_bytes.h"

namespace imsy::oci {
namespace {

using ::testing::HasSubstr;

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

std::string zstd(const std::string& text, bool with_checksum = true) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, with_checksum ? 1 : 0);
  std::string out(ZSTD_compressBound(text.size()), '\0');
  const std::size_t size =
      ZSTD_compress2(context, out.data(), out.size(), text.data(), text.size());
  ZSTD_freeCCtx(context);
  EXPECT_FALSE(ZSTD_isError(size));
  out.resize(size);
  return out;
}

std::string le32(std::uint32_t value) {
  Bytes bytes;
  append_le(bytes, value);
  return std::string(as_text(bytes));
}

std::string skippable(const std::string& content, std::uint32_t magic = 0x184D2A50) {
  return le32(magic) + le32(static_cast<std::uint32_t>(content.size())) + content;
}

// Some text that compresses a little.
std::string sample(std::size_t size) {
  std::string text;
  for (std::uint32_t i = 1; text.size() < size; i = i * 1664525 + 1013904223) {
    text += std::to_string(i % 100'000) + " ";
  }
  text.resize(size);
  return text;
}

struct Outcome {
  std::string text;  // what came out before the end or the error
  std::optional<Error> error;
};

Outcome run(const std::string& compressed, const DecompressLimits& limits = {},
            std::size_t input_step = SIZE_MAX, std::size_t output_step = 1 << 16) {
  StringReader input(compressed, input_step);
  auto reader = decompress(input, limits);
  if (!reader) return {"", reader.error()};
  Outcome outcome;
  Bytes buffer(output_step);
  for (;;) {
    const auto got = reader->content->read(buffer);
    if (!got) {
      const auto again = reader->content->read(buffer);
      EXPECT_FALSE(again) << "an error has to stay";
      outcome.error = got.error();
      return outcome;
    }
    if (*got == 0) break;
    outcome.text += as_text(std::span(buffer).first(*got));
  }
  EXPECT_TRUE(input.ended()) << "the input was not read to its end";
  EXPECT_EQ(reader->content->read(buffer).value_or(1), 0u);
  return outcome;
}

void expect_text(const std::string& compressed, const std::string& text) {
  struct Steps {
    std::size_t input;
    std::size_t output;
  };
  std::vector<Steps> steps = {{SIZE_MAX, std::size_t{1} << 20}, {1000, 5000}, {SIZE_MAX, 70'000}};
  if (text.size() < 100'000) steps.insert(steps.end(), {{1, 1}, {7, 1}, {1, 100}, {SIZE_MAX, 1}});
  for (const auto& step : steps) {
    const auto outcome = run(compressed, {}, step.input, step.output);
    EXPECT_FALSE(outcome.error) << outcome.error->message();
    EXPECT_TRUE(outcome.text == text) << outcome.text.size() << " bytes";
  }
}

void expect_corrupt(const std::string& compressed, const std::string& message = "") {
  for (const std::size_t input_step : {std::size_t{1}, SIZE_MAX}) {
    const auto outcome = run(compressed, {}, input_step);
    ASSERT_TRUE(outcome.error) << "accepted: " << outcome.text.size() << " bytes";
    EXPECT_EQ(outcome.error->code(), Errc::kCorrupt) << outcome.error->message();
    EXPECT_THAT(outcome.error->message(), HasSubstr(message));
  }
}

TEST(Decompress, DetectsByTheFirstBytes) {
  const auto detect = [](std::string_view head) { return detect_compression(as_bytes(head)); };
  EXPECT_EQ(detect("\x1f\x8b\x08\x00"), Compression::kGzip);
  EXPECT_EQ(detect("\x28\xb5\x2f\xfd"), Compression::kZstd);
  EXPECT_EQ(detect("\x50\x2a\x4d\x18"), Compression::kZstd);
  EXPECT_EQ(detect("\x5f\x2a\x4d\x18"), Compression::kZstd);
  EXPECT_EQ(detect("\x60\x2a\x4d\x18"), Compression::kNone);
  EXPECT_EQ(detect("\x1f\x8b"), Compression::kNone);
  EXPECT_EQ(detect("\x1f\x8b\x07\x00"), Compression::kNone);
  EXPECT_EQ(detect("\x28\xb5\x2f"), Compression::kNone);
  EXPECT_EQ(detect("./fi"), Compression::kNone);
  EXPECT_EQ(detect(""), Compression::kNone);
}

TEST(Decompress, PassesPlainBytesThrough) {
  for (const std::string& text : {std::string(), std::string("a"), sample(3'000'000)}) {
    expect_text(text, text);
  }
}

TEST(Decompress, InflatesGzip) {
  for (const std::size_t size : {0u, 1u, 5000u, 65536u, 3'000'000u}) {
    expect_text(gzip(sample(size)), sample(size));
  }
  const std::string zeros(5'000'000, '\0');
  expect_text(gzip(zeros), zeros);
}

TEST(Decompress, InflatesSeveralMembers) {
  const std::string text = sample(3000);
  expect_text(gzip(text) + gzip("") + gzip("more"), text + "more");
  std::string many;
  std::string all;
  for (int i = 0; i < 300; ++i) {
    many += gzip(std::to_string(i));
    all += std::to_string(i);
  }
  expect_text(many, all);
}

// "hello" in a stored block, in a member whose header has every optional part.
std::string full_member(const std::string& flags, const std::string& header_crc) {
  const std::string extra("\3\0abc", 5);
  return std::string("\x1f\x8b\x08", 3) + flags + std::string("\0\0\0\0\0\3", 6) + extra +
         std::string("name\0", 5) + std::string("comment\0", 8) + header_crc +
         std::string("\1\5\0\xfa\xffhello", 10) + le32(0x3610a686) + le32(5);
}

TEST(Decompress, ReadsEveryPartOfAGzipHeader) {
  expect_text(full_member("\x1d", ""), "hello");
  expect_corrupt(full_member("\x3d", ""), "flags");
  expect_corrupt(full_member("\x1f", std::string("\0\0", 2)), "header");
  expect_text(full_member("\x1f", "\x77\xe1"), "hello");
}

TEST(Decompress, RefusesGzipThatIsCutShort) {
  const std::string whole = full_member("\x1d", "");
  for (std::size_t size = 4; size < whole.size(); ++size) expect_corrupt(whole.substr(0, size));
  const std::string members = gzip(sample(2000)) + gzip(sample(1000));
  for (std::size_t i = 1; i < 50; ++i) {
    const std::size_t size = members.size() * i / 50;
    if (size != gzip(sample(2000)).size()) expect_corrupt(members.substr(0, size));
  }
}

TEST(Decompress, RefusesDamagedGzip) {
  const std::string good = gzip(sample(2000));
  for (const std::size_t back : {1u, 4u, 5u, 8u}) {
    std::string bad = good;
    bad[bad.size() - back] = static_cast<char>(bad[bad.size() - back] ^ 1);
    expect_corrupt(bad, "checksum");
  }
  std::string bad = good;
  bad[10] = '\x07';  // a block type that does not exist
  expect_corrupt(bad);
  for (const char* junk : {"x", "\x1f", "junk that is longer than a header", "\x1f\x8b\x07\0\0"}) {
    expect_corrupt(good + junk);
  }
  expect_corrupt(good + std::string(512, '\0'), "junk");
}

TEST(Decompress, DecompressesZstd) {
  for (const std::size_t size : {0u, 1u, 5000u, 3'000'000u}) {
    expect_text(zstd(sample(size)), sample(size));
    expect_text(zstd(sample(size), false), sample(size));
  }
}

TEST(Decompress, SkipsSkippableFrames) {
  const std::string text = sample(5000);
  expect_text(skippable("abc") + zstd(text) + skippable("", 0x184D2A5F) + zstd("more") +
                  skippable(std::string(2000, 's')),
              text + "more");
  expect_text(skippable("nothing else"), "");
}

TEST(Decompress, RefusesZstdThatIsCutShort) {
  const std::string whole = zstd(sample(300)) + skippable("abc");
  const std::size_t first = zstd(sample(300)).size();
  for (std::size_t size = 4; size < whole.size(); ++size) {
    if (size != first) expect_corrupt(whole.substr(0, size));
  }
}

TEST(Decompress, RefusesDamagedZstd) {
  const std::string good = zstd(sample(2000));
  std::string bad = good;
  bad.back() = static_cast<char>(bad.back() ^ 1);
  expect_corrupt(bad, "checksum");
  expect_corrupt(good + "x");
  expect_corrupt(good + "junk", "junk");
  expect_corrupt(good + gzip("x"), "junk");
  expect_corrupt(good + "\x27\xb5\x2f\xfd" + std::string(20, '\0'), "junk");  // version 0.7
}

TEST(Decompress, RefusesLargeWindowsAndDictionaries) {
  const std::string magic("\x28\xb5\x2f\xfd", 4);
  const std::string block("\x29\0\0hello", 8);  // the last one, raw, 5 bytes
  const auto window = [](int log) { return std::string(1, static_cast<char>((log - 10) << 3)); };
  expect_text(magic + std::string(1, '\0') + window(27) + block, "hello");
  expect_corrupt(magic + std::string(1, '\0') + window(28) + block, "memory");
  expect_corrupt(magic + std::string(1, '\0') + window(31) + block, "memory");
  expect_corrupt(magic + "\1" + window(17) + "\x2a" + block, "ictionary");
}

TEST(Decompress, DoesNotBelieveAContentSize) {
  const std::string magic("\x28\xb5\x2f\xfd", 4);
  const std::string block("\x29\0\0hello", 8);
  const std::string eight_bytes("\xc0\x38", 2);  // 8 bytes of size, and a window
  expect_text(magic + eight_bytes + std::string("\5\0\0\0\0\0\0\0", 8) + block, "hello");
  expect_corrupt(magic + eight_bytes + std::string("\5\0\0\0\0\0\0\x10", 8) + block);
  expect_corrupt(magic + eight_bytes + std::string("\4\0\0\0\0\0\0\0", 8) + block);
}

TEST(Decompress, GivesOneVerdictHoweverTheBytesArrive) {
  // A compressed block of no bytes: libzstd takes it from a stream, but not from a whole frame.
  const std::string odd("\x28\xb5\x2f\xfd\x24\0\5\0\0\x99\xe9\xd8\x51", 13);
  const auto whole = run(odd);
  for (const std::size_t step : {1u, 3u, 5u, 12u}) {
    EXPECT_EQ(run(odd, {}, step).error.has_value(), whole.error.has_value()) << step;
  }
}

TEST(Decompress, StopsAtTheOutputLimit) {
  const std::string text = sample(10'000);
  for (const std::string& compressed : {text, gzip(text), zstd(text)}) {
    EXPECT_EQ(run(compressed, {.output = 10'000}).text, text);
    EXPECT_FALSE(run(compressed, {.output = 10'000}).error);
    const auto outcome = run(compressed, {.output = 9'999});
    ASSERT_TRUE(outcome.error);
    EXPECT_EQ(outcome.error->code(), Errc::kInvalid);
    EXPECT_THAT(outcome.error->message(), HasSubstr("9999"));
    EXPECT_LE(outcome.text.size(), 9'999u);
  }
}

TEST(Decompress, CountsWhatCameBeforeTowardsTheLimit) {
  const std::string text = sample(10'000);
  const auto read = [&](std::uint64_t before) -> Status {
    StringReader input(gzip(text));
    IMSY_TRY_ASSIGN(const auto reader, decompress(input, {.output = 15'000}, before));
    EXPECT_EQ(reader.found, Compression::kGzip);
    Bytes buffer(1u << 16);
    for (;;) {
      IMSY_TRY_ASSIGN(const std::size_t got, reader.content->read(buffer));
      if (got == 0) return {};
    }
  };
  EXPECT_TRUE(read(5'000));
  for (const std::uint64_t before : {std::uint64_t{5'001}, std::uint64_t{1} << 50}) {
    const Status refused = read(before);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message(),
                HasSubstr("limit of 15000 bytes when decompressed, together with"));
  }
}

TEST(Decompress, StopsAtTheRatioAfter64MiB) {
  const std::string small = zstd(std::string(60u << 20, '\0'));
  EXPECT_FALSE(run(small).error);
  const auto outcome = run(small + small);
  ASSERT_TRUE(outcome.error);
  EXPECT_EQ(outcome.error->code(), Errc::kInvalid);
  EXPECT_THAT(outcome.error->message(), HasSubstr("1000 times"));
  EXPECT_LT(outcome.text.size(), 65u << 20);
  // The same bytes are fine where more is allowed.
  EXPECT_FALSE(run(small + small, {.ratio = 100'000}).error);
  EXPECT_FALSE(run("text", {.ratio = 1}).error);
  EXPECT_TRUE(run("text", {.ratio = 0}).error);
}

TEST(Decompress, PassesErrorsOfTheInputOn) {
  const std::string text = sample(10'000);
  for (const std::string& compressed : {text, gzip(text), zstd(text), std::string()}) {
    StringReader input(compressed);
    input.fail_at_end();
    auto reader = decompress(input);
    std::string got;
    Bytes buffer(1000);
    std::optional<Error> error;
    if (!reader) error = reader.error();
    while (!error) {
      const auto part = reader->content->read(buffer);
      if (!part)
        error = part.error();
      else if (*part == 0)
        break;
      else
        got += as_text(std::span(buffer).first(*part));
    }
    ASSERT_TRUE(error) << "the end was reported before the input's own";
    EXPECT_EQ(error->code(), Errc::kUnavailable);
    EXPECT_EQ(got, compressed.empty() ? "" : text);
  }
}

}  // namespace
}  // namespace imsy::oci
