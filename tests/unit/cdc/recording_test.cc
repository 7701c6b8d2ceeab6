#include "cdc/recording.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/image_maker.h"

namespace imsy::cdc {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class RecordingTest : public testing::Test {
 protected:
  std::uint32_t first_chunk(std::string_view path) const {
    return image_.manifest->objects().first_chunk(image_.object(path));
  }
  Result<Profile> read(std::string_view recording) const {
    return profile_of(recording, *image_.manifest);
  }

  const test::MadeImage image_ = test::ImageMaker()
                                     .file("usr/bin/tool", test::random_bytes(600'000, 1))
                                     .file("etc/copy", "same")
                                     .file("top", "at the top")
                                     .file("usr/other", "same")
                                     .hard_link("usr/bin/link", "top")
                                     .make();
};

TEST_F(RecordingTest, BecomesAProfileChunkByChunk) {
  const std::uint32_t tool = first_chunk("usr/bin/tool");
  std::string recording;
  append_access(recording, tool + 1);
  append_access(recording, first_chunk("top"));
  append_access(recording, tool);
  const auto profile = read(recording);
  ASSERT_TRUE(profile) << profile.error().message();
  const auto& objects = image_.manifest->objects();
  const std::uint64_t cut = objects.chunk(tool).size;
  EXPECT_THAT(profile->accesses(),
              ElementsAre(Profile::Access{"usr/bin/tool", cut, objects.chunk(tool + 1).size},
                          Profile::Access{"top", 0, 10}, Profile::Access{"usr/bin/tool", 0, cut}));
}

TEST_F(RecordingTest, ContentWithSeveralPathsHasTheFirstInTreeOrder) {
  std::string recording;
  append_access(recording, first_chunk("usr/other"));
  const auto profile = read(recording);
  ASSERT_TRUE(profile);
  EXPECT_THAT(profile->accesses(), ElementsAre(Profile::Access{"etc/copy", 0, 4}));
}

TEST_F(RecordingTest, PathsOfAWideAndDeepTree) {
  test::ImageMaker maker;
  std::vector<std::string> paths;
  std::string deep;
  for (int i = 0; i < 3000; ++i) {
    if (i % 10 == 0) deep += (deep.empty() ? "" : "/") + std::to_string(i);
    paths.push_back((i % 10 == 0 ? deep : std::to_string(i)) + "/file");
    maker.file(paths.back(), "content " + std::to_string(i));
  }
  const test::MadeImage image = maker.make();
  std::string recording;
  for (const std::string& path : paths) {
    append_access(recording, image.manifest->objects().first_chunk(image.object(path)));
  }
  const auto profile = profile_of(recording, *image.manifest);
  ASSERT_TRUE(profile) << profile.error().message();
  ASSERT_EQ(profile->accesses().size(), paths.size());
  for (std::size_t i = 0; i < paths.size(); ++i) {
    EXPECT_EQ(profile->accesses()[i].path, paths[i]);
  }
}

TEST_F(RecordingTest, ALastLineThatWasCutOffDoesNotCount) {
  std::string recording;
  append_access(recording, first_chunk("top"));
  const auto whole = read(recording);
  const auto cut = read(recording + "1");
  ASSERT_TRUE(whole && cut);
  EXPECT_EQ(cut->accesses(), whole->accesses());
  EXPECT_THAT(read("")->accesses(), IsEmpty());
  EXPECT_THAT(read("0")->accesses(), IsEmpty());
}

TEST_F(RecordingTest, NothingElseIsARecording) {
  const std::string beyond = std::to_string(image_.manifest->objects().total_chunks());
  for (const std::string line : {"", " 0", "0 ", "-1", "+1", "0x1", "one", "4294967296",
                                 "18446744073709551616", beyond.c_str()}) {
    const auto profile = read("0\n" + line + "\n0\n");
    ASSERT_FALSE(profile) << line;
    EXPECT_EQ(profile.error().code(), Errc::kInvalid);
    EXPECT_THAT(profile.error().message(), testing::HasSubstr("line 2 "));
  }
  EXPECT_FALSE(read(std::string("\0\0\0\n", 4)));
}

TEST_F(RecordingTest, AccessesAreLimited) {
  std::string recording;
  for (std::size_t i = 0; i <= Profile::kAccessLimit; ++i) append_access(recording, 0);
  EXPECT_EQ(read(recording).error().code(), Errc::kInvalid);
}

}  // namespace
}  // namespace imsy::cdc
