#include "snapshotter/recorded_image.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "cdc/recording.h"
#include "common/log.h"
#include "snapshotter/profiles.h"
#include "tests/unit/fuse/fake_image.h"
#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::snapshotter {
namespace {

using fuse::testing::ImageBuilder;
using std::chrono::seconds;

constexpr std::uint32_t kChunk = 64u << 10;  // of the images that ImageBuilder makes

class RecordedImageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ImageBuilder builder;
    builder.file(ImageBuilder::kRoot, "large", std::string(5 * kChunk + 100, 'l'));
    builder.file(ImageBuilder::kRoot, "small", "small");
    builder.file(ImageBuilder::kRoot, "empty", "");
    image_ = builder.build();
    auto profiles = Profiles::open(directory_ / "profiles");
    ASSERT_TRUE(profiles) << profiles.error().message();
    profiles_ = std::move(*profiles);
    recorded_ = record(image_, [this] { return profiles_->create(name()); });
  }

  std::unique_ptr<RecordedImage> record(std::shared_ptr<cas::Image> image,
                                        RecordedImage::Create create) {
    return std::make_unique<RecordedImage>(std::move(image), std::move(create),
                                           [this] { return now_; });
  }
  const Digest& name() const { return image_->manifest()->digest(); }
  std::filesystem::path file() const { return directory_ / "profiles" / name().hex(); }

  // What a read of the lazy tree gives.
  std::string read(const std::string& path, std::uint64_t offset, std::uint32_t length) {
    std::string got = "no answer";
    recorded_->read(fuse::testing::object_at(*image_, path), offset, length,
                    [&](Result<Bytes> bytes) {
                      got = bytes ? std::string(as_text(*bytes)) : bytes.error().message();
                    });
    return got;
  }

  // The accesses that write() has recorded until now as "path@offset+length".
  std::vector<std::string> accesses() const {
    recorded_->write();
    const auto text = read_file(file(), 1 << 20);
    if (!text) return {text.error().message()};
    const auto profile = cdc::profile_of(as_text(*text), *image_->manifest());
    if (!profile) return {profile.error().message()};
    std::vector<std::string> list;
    for (const auto& access : profile->accesses()) {
      list.push_back(access.path + "@" + std::to_string(access.offset) + "+" +
                     std::to_string(access.length));
    }
    return list;
  }

  const test::TemporaryDirectory directory_;
  std::chrono::steady_clock::time_point now_{seconds(1000)};
  std::shared_ptr<fuse::testing::FakeImage> image_;
  std::unique_ptr<Profiles> profiles_;
  std::unique_ptr<RecordedImage> recorded_;
};

using List = std::vector<std::string>;

TEST_F(RecordedImageTest, WritesDownFirstAccessesInTheirOrder) {
  EXPECT_FALSE(std::filesystem::exists(file()));
  EXPECT_EQ(read("large", 3 * kChunk + 5, 10), std::string(10, 'l'));
  EXPECT_EQ(read("small", 0, 5), "small");
  EXPECT_EQ(accesses(), (List{"large@196608+65536", "small@0+5"})) << "while it goes on";
  read("large", 0, kChunk + 1);
  EXPECT_EQ(accesses(),
            (List{"large@196608+65536", "small@0+5", "large@0+65536", "large@65536+65536"}));
}

TEST_F(RecordedImageTest, WritesDownEachChunkOnce) {
  for (int round = 0; round < 3; ++round) {
    read("small", 0, 5);
    read("small", 2, 1);
    read("large", 4 * kChunk, kChunk + 100);
  }
  EXPECT_EQ(accesses(), (List{"small@0+5", "large@262144+65536", "large@327680+100"}));
}

TEST_F(RecordedImageTest, WhatTouchesNoChunkIsNoAccess) {
  image_->fail(99, Error(Errc::kInvalid, "no such object"));
  recorded_->read(99, 0, 1, [](const Result<Bytes>& bytes) { EXPECT_FALSE(bytes); });
  read("empty", 0, 1);
  read("small", 5, 1);
  read("small", 0, 0);
  recorded_->write();
  EXPECT_FALSE(std::filesystem::exists(file()));
  read("small", 1, 1'000'000);
  EXPECT_EQ(accesses(), List{"small@0+5"});
}

TEST_F(RecordedImageTest, EndsAMinuteAfterTheFirstRead) {
  now_ += seconds(500);
  read("small", 0, 5);
  now_ += RecordedImage::kRecordingTime - seconds(1);
  recorded_->write();
  read("large", 0, 1);
  now_ += seconds(1);
  EXPECT_EQ(read("large", kChunk, 1), "l");
  EXPECT_EQ(accesses(), (List{"small@0+5", "large@0+65536"}));
  now_ -= seconds(30);
  read("large", kChunk, 1);
  EXPECT_EQ(accesses().size(), 2U) << "it had ended";
}

TEST_F(RecordedImageTest, EndsWithoutFurtherReads) {
  recorded_->write();
  read("small", 0, 5);
  now_ += RecordedImage::kRecordingTime;
  recorded_->write();
  now_ -= seconds(30);
  read("large", 0, 1);
  EXPECT_EQ(accesses(), List{"small@0+5"});
}

TEST_F(RecordedImageTest, EndsAfterSoManyAccesses) {
  constexpr std::uint32_t kChunks = RecordedImage::kRecordedAccesses + 10;
  ImageBuilder builder;
  const auto directory = builder.directory(ImageBuilder::kRoot, "d");
  for (std::uint32_t i = 0; i < kChunks; ++i) {
    builder.file(directory, std::to_string(i), std::to_string(i));
  }
  image_ = builder.build();
  recorded_ = record(image_, [this] { return profiles_->create(name()); });
  for (std::uint32_t object = 0; object < kChunks; ++object) {
    bool answered = false;
    recorded_->read(object, 0, 1,
                    [&](const Result<Bytes>& bytes) { answered = bytes.has_value(); });
    ASSERT_TRUE(answered);
  }
  EXPECT_EQ(accesses().size(), RecordedImage::kRecordedAccesses);
}

TEST_F(RecordedImageTest, AnImageIsRecordedOnce) {
  read("small", 0, 5);
  recorded_->write();
  read("large", 0, 3);
  // The daemon was killed and starts anew.
  recorded_ = record(image_, [this] { return profiles_->create(name()); });
  EXPECT_EQ(read("large", 0, 3), "lll");
  EXPECT_EQ(accesses(), List{"small@0+5"});
}

TEST_F(RecordedImageTest, AFileThatCannotBeMadeFailsNoRead) {
  int asked = 0;
  recorded_ = record(image_, [&]() -> Result<UniqueFd> {
    ++asked;
    return Error(Errc::kNoSpace, "the disk is full");
  });
  EXPECT_EQ(read("small", 0, 5), "small");
  recorded_->write();
  EXPECT_EQ(read("large", 0, 3), "lll");
  recorded_->write();
  EXPECT_EQ(asked, 1);
}

TEST_F(RecordedImageTest, AFailingWriteEndsItAndFailsNoRead) {
  int asked = 0;
  recorded_ = record(image_, [&] {
    ++asked;
    return open_file("/dev/full", O_WRONLY | O_APPEND);
  });
  ::testing::internal::CaptureStderr();
  ASSERT_TRUE(log::configure("info"));
  EXPECT_EQ(read("small", 0, 5), "small");
  recorded_->write();
  EXPECT_EQ(read("large", 0, 3), "lll");
  recorded_->write();
  EXPECT_EQ(asked, 1);
  const std::string log = ::testing::internal::GetCapturedStderr();
  const auto first = log.find("is recorded only in part");
  ASSERT_NE(first, std::string::npos) << log;
  EXPECT_EQ(log.find("recorded", first + 20), std::string::npos) << "more than one line: " << log;
}

TEST_F(RecordedImageTest, StoppedItMakesNoFile) {
  recorded_->stop();
  EXPECT_EQ(read("small", 0, 5), "small");
  recorded_->write();
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(RecordedImageTest, StoppedItForgetsWhatIsNotWritten) {
  read("small", 0, 5);
  recorded_->stop();
  recorded_->write();
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(RecordedImageTest, ReadsNeitherTouchTheFileNorWaitForIt) {
  int asked = 0;
  recorded_ = record(image_, [&] {
    ++asked;
    // The disk is slow, and meanwhile somebody reads.
    EXPECT_EQ(read("large", 0, 3), "lll");
    return profiles_->create(name());
  });
  EXPECT_EQ(read("small", 0, 5), "small");
  EXPECT_EQ(asked, 0);
  recorded_->write();
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(accesses(), (List{"small@0+5", "large@0+65536"}));
}

}  // namespace
}  // namespace imsy::snapshotter
