#include "fuse/image_fs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <atomic>
#include <thread>

#include "tests/unit/fuse/fake_image.h"

namespace imsy::fuse {
namespace {

using ::testing::ElementsAre;
using testing::FakeImage;
using ::testing::HasSubstr;
using testing::ImageBuilder;
using testing::inode_at;
using testing::object_at;

constexpr Slot kSlot = 7;

std::vector<std::string> names(const Result<std::vector<DirectoryEntry>>& entries) {
  std::vector<std::string> list;
  for (const auto& entry : entries.value()) list.push_back(entry.name);
  return list;
}

// One image with a node of every kind, mounted at slot 7.
class ImageFsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ImageBuilder builder({.mode = 0751, .uid = 3, .gid = 4, .mtime_s = 77, .mtime_ns = 5});
    const auto etc = builder.directory(ImageBuilder::kRoot, "etc", {.mode = 01777});
    const auto file = builder.file(etc, "motd", "welcome",
                                   {.mode = 04755,
                                    .uid = 4294967294,
                                    .gid = 65534,
                                    .mtime_s = -1,
                                    .mtime_ns = 999'999'999,
                                    .xattrs = {{"user.b", std::string("\0\xff", 2)},
                                               {"security.capability", "cap"},
                                               {"user.empty", ""}}});
    builder.link(ImageBuilder::kRoot, "hard", file);
    builder.file(etc, "large", std::string(5000, 'x'));
    builder.file(etc, "empty", "");
    builder.symlink(ImageBuilder::kRoot, "ln", "etc/motd");
    builder.directory(etc, "sub");
    builder.device(ImageBuilder::kRoot, "chr", cdc::NodeType::kCharDevice, 5, 300);
    builder.device(ImageBuilder::kRoot, "blk", cdc::NodeType::kBlockDevice, 4095, 2);
    builder.fifo(ImageBuilder::kRoot, "pipe", {.mode = 0600});
    image_ = builder.build();
    ASSERT_TRUE(fs_.add(kSlot, image_));
  }

  NodeId at(const std::string& path) const { return node_id(kSlot, inode_at(*image_, path)); }
  struct stat stat_of(const std::string& path) const {
    return fs_.attributes(at(path)).value();
  }

  ImageFs fs_;
  std::shared_ptr<FakeImage> image_;
};

TEST_F(ImageFsTest, NodeIdsAreMadeOfSlotAndInode) {
  EXPECT_EQ(node_id(1, 0), (NodeId{1} << 32) + 1);
  EXPECT_EQ(node_id(kSlotMax, 0xfffffffe), (NodeId{kSlotMax} << 32) + 0xffffffff);
  EXPECT_EQ(node_id(kSlotMax, 0xfffffffe) >> 62, 0u);
  EXPECT_EQ(at(""), node_id(kSlot, 0));
}

TEST_F(ImageFsTest, ServesAllAttributes) {
  const struct stat st = stat_of("etc/motd");
  EXPECT_EQ(st.st_ino, at("etc/motd"));
  EXPECT_EQ(st.st_mode, S_IFREG | 04755u);
  EXPECT_EQ(st.st_nlink, 2u);
  EXPECT_EQ(st.st_uid, 4294967294u);
  EXPECT_EQ(st.st_gid, 65534u);
  EXPECT_EQ(st.st_size, 7);
  EXPECT_EQ(st.st_blocks, 1);
  EXPECT_EQ(st.st_blksize, 4096);
  for (const timespec& time : {st.st_mtim, st.st_ctim, st.st_atim}) {
    EXPECT_EQ(time.tv_sec, -1);
    EXPECT_EQ(time.tv_nsec, 999'999'999);
  }
  EXPECT_EQ(stat_of("etc/large").st_blocks, 10);
  EXPECT_EQ(stat_of("etc/empty").st_blocks, 0);
}

TEST_F(ImageFsTest, ServesEveryType) {
  EXPECT_EQ(stat_of("etc").st_mode, S_IFDIR | 01777u);
  EXPECT_EQ(stat_of("etc").st_nlink, 3u);
  EXPECT_EQ(stat_of("ln").st_mode & S_IFMT, static_cast<unsigned>(S_IFLNK));
  EXPECT_EQ(stat_of("ln").st_size, 8);
  EXPECT_EQ(stat_of("pipe").st_mode, S_IFIFO | 0600u);
  EXPECT_EQ(stat_of("chr").st_mode & S_IFMT, static_cast<unsigned>(S_IFCHR));
  EXPECT_EQ(stat_of("chr").st_rdev, makedev(5, 300));
  EXPECT_EQ(stat_of("blk").st_mode & S_IFMT, static_cast<unsigned>(S_IFBLK));
  EXPECT_EQ(stat_of("blk").st_rdev, makedev(4095, 2));
  EXPECT_EQ(stat_of("pipe").st_rdev, 0u);
}

TEST_F(ImageFsTest, TheRootOfAnImageHasItsAttributes) {
  const struct stat st = stat_of("");
  EXPECT_EQ(st.st_mode, S_IFDIR | 0751u);
  EXPECT_EQ(st.st_uid, 3u);
  EXPECT_EQ(st.st_gid, 4u);
  EXPECT_EQ(st.st_mtim.tv_sec, 77);
  EXPECT_EQ(st.st_mtim.tv_nsec, 5);
}

TEST_F(ImageFsTest, LooksUpNames) {
  EXPECT_EQ(fs_.lookup(at(""), "etc")->st_ino, at("etc"));
  EXPECT_EQ(fs_.lookup(at("etc"), "motd")->st_ino, at("etc/motd"));
  EXPECT_EQ(fs_.lookup(at(""), "hard")->st_ino, at("etc/motd")) << "hard links are one inode";
  EXPECT_EQ(fs_.lookup(at("etc"), "absent").error().code(), Errc::kNotFound);
  EXPECT_EQ(fs_.lookup(at("etc/motd"), "x").error().code(), Errc::kFailedPrecondition);
}

TEST_F(ImageFsTest, LooksUpSlotsInTheRoot) {
  EXPECT_EQ(fs_.lookup(kRootId, "7")->st_ino, at(""));
  for (const char* name : {"8", "07", "+7", "7 ", "0", "", "etc", "4294967303", "1073741824"}) {
    EXPECT_EQ(fs_.lookup(kRootId, name).error().code(), Errc::kNotFound) << name;
  }
}

TEST_F(ImageFsTest, NodesThatDoNotExistAreNotFound) {
  const NodeId behind_last = node_id(kSlot, image_->manifest()->tree().inode_count());
  for (const NodeId node : {NodeId{0}, NodeId{2}, NodeId{kSlot} << 32, behind_last, node_id(8, 0),
                            node_id(kSlot, 0xfffffffe), ~NodeId{0}}) {
    EXPECT_EQ(fs_.attributes(node).error().code(), Errc::kNotFound) << node;
    EXPECT_EQ(fs_.lookup(node, "x").error().code(), Errc::kNotFound) << node;
    EXPECT_EQ(fs_.read_directory(node, 0, 9).error().code(), Errc::kNotFound) << node;
    EXPECT_EQ(fs_.read_link(node).error().code(), Errc::kNotFound) << node;
    EXPECT_EQ(fs_.get_xattr(node, "user.b").error().code(), Errc::kNotFound) << node;
    EXPECT_EQ(fs_.list_xattrs(node).error().code(), Errc::kNotFound) << node;
    EXPECT_THAT(fs_.describe(node), HasSubstr("no image there")) << node;
  }
}

TEST_F(ImageFsTest, ReadsLinks) {
  EXPECT_EQ(fs_.read_link(at("ln")).value(), "etc/motd");
  EXPECT_EQ(fs_.read_link(at("etc")).error().code(), Errc::kFailedPrecondition);
  EXPECT_EQ(fs_.read_link(kRootId).error().code(), Errc::kFailedPrecondition);
}

TEST_F(ImageFsTest, ListsDirectories) {
  const auto all = fs_.read_directory(at(""), 0, 100);
  EXPECT_THAT(names(all), ElementsAre(".", "..", "blk", "chr", "etc", "hard", "ln", "pipe"));
  EXPECT_EQ((*all)[0].node, at(""));
  EXPECT_EQ((*all)[1].node, kRootId) << "above an image is the list of images";
  EXPECT_EQ((*all)[3].type, static_cast<unsigned>(S_IFCHR));
  EXPECT_EQ((*all)[4].type, static_cast<unsigned>(S_IFDIR));
  EXPECT_EQ((*all)[5].node, at("etc/motd"));
  const auto sub = fs_.read_directory(at("etc/sub"), 0, 100);
  EXPECT_THAT(names(sub), ElementsAre(".", ".."));
  EXPECT_EQ((*sub)[1].node, at("etc"));
  EXPECT_EQ(fs_.read_directory(at("hard"), 0, 9).error().code(), Errc::kFailedPrecondition);
}

// From whichever position one goes on, the rest of the list follows.
void expect_resumable(const ImageFs& fs, NodeId directory) {
  const auto all = fs.read_directory(directory, 0, 1000).value();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto rest = fs.read_directory(directory, all[i].next, 1000).value();
    ASSERT_EQ(rest.size(), all.size() - i - 1) << "behind " << all[i].name;
    if (!rest.empty()) {
      EXPECT_EQ(rest.front().name, all[i + 1].name);
    }
  }
  std::uint64_t position = 0;
  for (const auto& entry : all) {
    const auto one = fs.read_directory(directory, position, 1).value();
    ASSERT_EQ(one.size(), 1u);
    EXPECT_EQ(one[0].name, entry.name);
    position = one[0].next;
  }
  EXPECT_TRUE(fs.read_directory(directory, position, 1)->empty());
}

TEST_F(ImageFsTest, ListsFromAnyPosition) {
  ASSERT_TRUE(fs_.add(3, image_));
  ASSERT_TRUE(fs_.add(kSlotMax, image_));
  expect_resumable(fs_, at(""));
  expect_resumable(fs_, at("etc/sub"));
  expect_resumable(fs_, kRootId);
}

TEST_F(ImageFsTest, PositionsBehindTheEndGiveNothing) {
  for (const std::uint64_t position :
       {std::uint64_t{1000}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    EXPECT_TRUE(fs_.read_directory(at(""), position, 9)->empty());
    EXPECT_TRUE(fs_.read_directory(kRootId, position, 9)->empty());
  }
  EXPECT_TRUE(fs_.read_directory(at(""), 0, 0)->empty());
}

TEST_F(ImageFsTest, PositionsInTheRootOutliveItsChanges) {
  ASSERT_TRUE(fs_.add(9, image_));
  const auto all = fs_.read_directory(kRootId, 0, 9).value();
  EXPECT_THAT(names(all), ElementsAre(".", "..", "7", "9"));
  const std::uint64_t behind_7 = all[2].next;
  ASSERT_TRUE(fs_.add(1, image_));
  fs_.remove(7);
  EXPECT_THAT(names(fs_.read_directory(kRootId, behind_7, 9)), ElementsAre("9"));
}

TEST_F(ImageFsTest, TheRootCountsItsImages) {
  EXPECT_EQ(fs_.attributes(kRootId)->st_nlink, 3u);
  ASSERT_TRUE(fs_.add(9, image_));
  const struct stat st = fs_.attributes(kRootId).value();
  EXPECT_EQ(st.st_nlink, 4u);
  EXPECT_EQ(st.st_mode, S_IFDIR | 0755u);
  EXPECT_EQ(st.st_ino, kRootId);
}

TEST_F(ImageFsTest, ServesXattrsByteForByte) {
  EXPECT_THAT(fs_.list_xattrs(at("hard")).value(),
              ElementsAre("security.capability", "user.b", "user.empty"));
  EXPECT_EQ(fs_.get_xattr(at("hard"), "user.b").value(), std::string("\0\xff", 2));
  EXPECT_EQ(fs_.get_xattr(at("hard"), "user.empty").value(), "");
  EXPECT_EQ(fs_.get_xattr(at("hard"), "user.").error().code(), Errc::kNotFound);
  EXPECT_EQ(fs_.get_xattr(at("etc"), "user.b").error().code(), Errc::kNotFound);
  EXPECT_TRUE(fs_.list_xattrs(at("etc"))->empty());
  EXPECT_TRUE(fs_.list_xattrs(kRootId)->empty());
  EXPECT_EQ(fs_.get_xattr(kRootId, "user.b").error().code(), Errc::kNotFound);
}

TEST_F(ImageFsTest, SlotsAreBounded) {
  EXPECT_EQ(fs_.add(0, image_).error().code(), Errc::kInvalid);
  EXPECT_EQ(fs_.add(kSlotMax + 1, image_).error().code(), Errc::kInvalid);
  EXPECT_EQ(fs_.add(kSlot, image_).error().code(), Errc::kAlreadyExists);
}

TEST_F(ImageFsTest, TotalsAreSumsOverImages) {
  const auto one = fs_.totals();
  EXPECT_EQ(one.images, 1u);
  EXPECT_EQ(one.content_bytes, 5007u);
  EXPECT_EQ(one.inodes, image_->manifest()->tree().inode_count());
  ASSERT_TRUE(fs_.add(9, image_));
  EXPECT_EQ(fs_.totals().content_bytes, 2 * 5007u);
}

// A read of the fixture, and how often and with what it was answered.
struct Answer {
  int calls = 0;
  Result<Bytes> result = Error(Errc::kInternal, "not answered");
  ImageFs::ReadDone done() {
    return [this](Result<Bytes> bytes) {
      ++calls;
      result = std::move(bytes);
    };
  }
  std::string text() const { return result ? std::string(as_text(*result)) : "error"; }
};

TEST_F(ImageFsTest, ReadsContentCutAtItsEnd) {
  struct Case {
    std::uint64_t offset;
    std::uint32_t length;
    std::string expected;
  };
  for (const Case& c : std::vector<Case>{{0, 7, "welcome"},
                                         {0, 4096, "welcome"},
                                         {3, 2, "co"},
                                         {6, 100, "e"},
                                         {7, 1, ""},
                                         {0, 0, ""},
                                         {~std::uint64_t{0}, 0xffffffff, ""}}) {
    Answer answer;
    EXPECT_EQ(fs_.read(at("hard"), c.offset, c.length, answer.done()), 0u);
    EXPECT_EQ(answer.calls, 1);
    EXPECT_EQ(answer.text(), c.expected) << c.offset << "+" << c.length;
  }
}

TEST_F(ImageFsTest, EmptyFilesNeedNoFetcher) {
  image_->hold(object_at(*image_, "etc/empty"));
  Answer answer;
  EXPECT_EQ(fs_.read(at("etc/empty"), 0, 100, answer.done()), 0u);
  EXPECT_EQ(answer.text(), "");
}

TEST_F(ImageFsTest, OnlyRegularFilesHaveContent) {
  for (const char* path : {"", "etc", "ln", "chr", "pipe"}) {
    Answer answer;
    EXPECT_EQ(fs_.read(at(path), 0, 10, answer.done()), 0u);
    EXPECT_EQ(answer.result.error().code(), Errc::kFailedPrecondition) << path;
  }
  Answer answer;
  EXPECT_EQ(fs_.read(kRootId, 0, 10, answer.done()), 0u);
  EXPECT_EQ(answer.calls, 1);
  EXPECT_FALSE(answer.result);
}

TEST_F(ImageFsTest, PassesTheFetchersErrorsOn) {
  image_->fail(object_at(*image_, "hard"), Error(Errc::kCorrupt, "wrong digest"));
  Answer answer;
  EXPECT_EQ(fs_.read(at("hard"), 0, 10, answer.done()), 0u);
  EXPECT_EQ(answer.result.error().code(), Errc::kCorrupt);
  EXPECT_EQ(answer.result.error().message(), "wrong digest");
}

TEST_F(ImageFsTest, ShortContentIsAnErrorAndNotTheEndOfTheFile) {
  image_->cut_short(object_at(*image_, "hard"));
  Answer answer;
  EXPECT_EQ(fs_.read(at("hard"), 0, 7, answer.done()), 0u);
  EXPECT_EQ(answer.result.error().code(), Errc::kInternal);
}

TEST_F(ImageFsTest, WaitingReadsAreAnsweredLater) {
  const auto object = object_at(*image_, "hard");
  image_->hold(object);
  Answer answer;
  EXPECT_NE(fs_.read(at("hard"), 1, 3, answer.done()), 0u);
  EXPECT_EQ(answer.calls, 0);
  image_->let_go(object);
  EXPECT_EQ(answer.calls, 1);
  EXPECT_EQ(answer.text(), "elc");
}

TEST_F(ImageFsTest, CancelledReadsEnd) {
  image_->hold(object_at(*image_, "hard"));
  Answer answer;
  const auto number = fs_.read(at("hard"), 0, 3, answer.done());
  fs_.cancel(at("hard"), number);
  EXPECT_EQ(answer.calls, 1);
  EXPECT_FALSE(answer.result);
}

TEST_F(ImageFsTest, ReadsInProgressOutliveTheRemovalOfTheirImage) {
  const auto object = object_at(*image_, "hard");
  image_->hold(object);
  Answer answer;
  EXPECT_NE(fs_.read(at("hard"), 0, 7, answer.done()), 0u);
  const NodeId node = at("hard");
  const std::weak_ptr<FakeImage> alive = image_;
  FakeImage* const image = image_.get();
  fs_.remove(kSlot);
  image_.reset();
  ASSERT_FALSE(alive.expired()) << "the read keeps its image";
  fs_.cancel(node, 1);
  EXPECT_EQ(answer.calls, 0);
  image->let_go(object);
  EXPECT_EQ(answer.text(), "welcome");
  EXPECT_TRUE(alive.expired());
}

TEST_F(ImageFsTest, RemovedImagesAreGone) {
  const NodeId node = at("etc/motd");
  fs_.remove(kSlot);
  EXPECT_EQ(fs_.image(kSlot), nullptr);
  EXPECT_EQ(fs_.attributes(node).error().code(), Errc::kNotFound);
  EXPECT_EQ(fs_.lookup(kRootId, "7").error().code(), Errc::kNotFound);
  Answer answer;
  EXPECT_EQ(fs_.read(node, 0, 7, answer.done()), 0u);
  EXPECT_EQ(answer.result.error().code(), Errc::kNotFound);
  fs_.remove(kSlot);
  EXPECT_TRUE(fs_.add(kSlot, image_));
}

TEST_F(ImageFsTest, DescribesWhatAReadWasAbout) {
  const std::string text = fs_.describe(at("etc/large"));
  EXPECT_THAT(text, HasSubstr("image=" + image_->manifest()->digest().to_string()));
  EXPECT_THAT(text, HasSubstr("file=/etc/large "));
  const auto object = object_at(*image_, "etc/large");
  EXPECT_THAT(text, HasSubstr("object=" + image_->manifest()->objects().id(object).hex()));
  EXPECT_THAT(fs_.describe(at("")), HasSubstr("file=/"));
  EXPECT_THAT(fs_.describe(at("hard")), HasSubstr("file=/hard"));
  EXPECT_THAT(fs_.describe(at("etc/sub")), HasSubstr("file=/etc/sub"));
}

TEST(ImageFsDescribeTest, HostileNamesStayOnTheirLine) {
  ImageBuilder builder;
  const auto directory = builder.directory(ImageBuilder::kRoot, "a b\\");
  builder.file(directory, "x\ny\x1b[31m\xc3", "content");
  const auto image = builder.build();
  ImageFs fs;
  ASSERT_TRUE(fs.add(1, image));
  const std::string path = "a b\\/x\ny\x1b[31m\xc3";
  EXPECT_THAT(fs.describe(node_id(1, inode_at(*image, path))),
              HasSubstr("file=/a\\x20b\\x5c/x\\x0ay\\x1b[31m\\xc3"));
}

TEST(ImageFsThreadsTest, AnswersWhileImagesComeAndGo) {
  ImageBuilder builder;
  builder.file(ImageBuilder::kRoot, "file", "content");
  const auto image = builder.build();
  ImageFs fs;
  ASSERT_TRUE(fs.add(1, image));
  std::atomic<bool> stop{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!stop) {
        for (const Slot slot : {1u, 2u}) {
          const auto found = fs.lookup(node_id(slot, 0), "file");
          EXPECT_TRUE(found || slot == 2);
          Answer answer;
          fs.read(node_id(slot, 1), 0, 7, answer.done());
          EXPECT_EQ(answer.calls, 1);
          EXPECT_TRUE(!answer.result || answer.text() == "content");
        }
        EXPECT_GE(fs.read_directory(kRootId, 0, 9)->size(), 3u);
        EXPECT_GE(fs.totals().images, 1u);
      }
    });
  }
  for (int i = 0; i < 500; ++i) {
    EXPECT_TRUE(fs.add(2, image));
    fs.remove(2);
  }
  stop = true;
  for (auto& reader : readers) reader.join();
}

}  // namespace
}  // namespace imsy::fuse
