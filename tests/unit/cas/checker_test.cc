// Store::check(): what it finds, what it leaves alone, and that what it takes off the record is
// fetched again and not served.
#include "cas/check.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <thread>

#include "cas/disk_reader.h"
#include "cas/layout.h"
#include "cas/sqlite.h"
#include "tests/unit/cas/fixture.h"

namespace imsy::cas {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Checked {
  std::vector<Finding> findings;
  CheckSummary summary;
  CheckPosition last;
};

class CheckerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = open_store(root());
    ASSERT_OK(add(*store_, image_));
    put_all(*store_, image_);
    ASSERT_OK(store_->mark_resident(*image_.manifest));
  }
  fs::path root() const { return dir_.path() / "store"; }
  void reopen() {
    store_.reset();
    store_ = open_store(root());
  }
  Checked check(const CheckOptions& options = {}) {
    Checked checked;
    const auto summary = store_->check(
        options,
        {.finding = [&](const Finding& finding) { checked.findings.push_back(finding); },
         .progress = [&](const CheckPosition& at, const CheckSummary&) { checked.last = at; }},
        {});
    EXPECT_OK(summary);
    if (summary) checked.summary = *summary;
    return checked;
  }
  Checked repair() { return check({.repair = true}); }
  // The one finding of a check.
  Finding one(const CheckOptions& options) {
    const Checked checked = check(options);
    EXPECT_EQ(checked.findings.size(), 1u);
    return checked.findings.empty() ? Finding() : checked.findings.front();
  }

  const cdc::ObjectId& id(const std::string& path) {
    return image_.manifest->objects().id(image_.object(path));
  }
  fs::path file(const std::string& path, const char* place = "objects") {
    return object_path(root(), place, id(path));
  }
  std::string name(const std::string& path) {
    return file(path).lexically_relative(root()).string();
  }
  std::shared_ptr<Object> object(const std::string& path) {
    auto opened = store_->open_object(*image_.manifest, image_.object(path), "");
    EXPECT_OK(opened);
    return opened ? *opened : nullptr;
  }
  bool resident() { return *store_->is_resident(image_.manifest->digest()); }

  // As rot does it: nobody is told.
  void flip(const std::string& path, std::uint64_t offset) {
    ASSERT_EQ(::chmod(file(path).c_str(), 0600), 0);
    {
      std::fstream stream(file(path), std::ios::in | std::ios::out | std::ios::binary);
      stream.seekg(static_cast<std::streamoff>(offset));
      const auto byte = static_cast<char>(stream.get() ^ 1);
      stream.seekp(static_cast<std::streamoff>(offset));
      stream.put(byte);
    }
    ASSERT_EQ(::chmod(file(path).c_str(), 0444), 0);
  }
  void replace(const std::string& path, const std::function<int(const char*)>& make) {
    fs::remove(file(path));
    ASSERT_EQ(make(file(path).c_str()), 0);
  }

  // The damage to `path` is found once, ends the residency, is not served, and is gone when the
  // content was brought again; whether the object is open meanwhile or not.
  void expect_repaired(const std::string& path, const std::string& what) {
    const Finding seen = one({});
    EXPECT_THAT(seen.what, HasSubstr(what));
    EXPECT_EQ(seen.where, name(path));
    EXPECT_FALSE(seen.mended);
    EXPECT_TRUE(resident()) << "a check changes nothing";

    const Finding mended = one({.repair = true});
    EXPECT_THAT(mended.what, HasSubstr(what));
    EXPECT_TRUE(mended.mended) << mended.remedy;
    EXPECT_THAT(mended.images, ElementsAre(image_.manifest->digest()));
    EXPECT_FALSE(resident());
    EXPECT_FALSE(object(path)->complete());
    EXPECT_THAT(repair().findings, IsEmpty());

    put_file(*store_, image_, path);
    EXPECT_OK(store_->mark_resident(*image_.manifest));
    EXPECT_THAT(check().findings, IsEmpty());
    expect_content(path);
  }
  void expect_content(const std::string& path) {
    Bytes bytes(image_.files.at(path).size());
    ASSERT_OK(object(path)->read(0, bytes));
    EXPECT_EQ(bytes, image_.files.at(path));
  }

  static const test::MadeImage& sample() {
    static const test::MadeImage image = test::ImageMaker()
                                             .file("etc/motd", "hello")
                                             .file("empty", "")
                                             .file("bin/large", test::random_bytes(1'000'000, 1))
                                             .file("bin/other", test::random_bytes(300'000, 2))
                                             .make();
    return image;
  }
  const test::MadeImage& image_ = sample();
  TempDir dir_;
  std::unique_ptr<Store> store_;
};

TEST_F(CheckerTest, FindsNothingInAStoreThatIsWell) {
  const auto second = test::ImageMaker()
                          .file("etc/motd", "hello")
                          .file("half", test::random_bytes(900'000, 3))
                          .make();
  ASSERT_OK(add(*store_, second));
  auto half = store_->open_object(*second.manifest, second.object("half"), "");
  ASSERT_OK(half);
  ASSERT_OK(store_->put_chunk(**half, 1, chunk_bytes(second, "half", 1)));
  const Checked checked = check({.repair = true});
  EXPECT_THAT(checked.findings, IsEmpty());
  EXPECT_EQ(checked.summary.images, 2u);
  EXPECT_EQ(checked.summary.objects, 4u) << "that of both images once";
  EXPECT_EQ(checked.summary.bytes, 1'300'005u);
  EXPECT_TRUE(resident());
  reopen();
  EXPECT_THAT(check({.repair = true}).findings, IsEmpty());
}

TEST_F(CheckerTest, ReadsNoDataWhenItIsNotAsked) {
  flip("bin/large", 500'000);
  const Checked checked = check({.read_data = false});
  EXPECT_THAT(checked.findings, IsEmpty());
  EXPECT_EQ(checked.summary.bytes, 0u);
}

TEST_F(CheckerTest, AFlippedByte) {
  flip("bin/large", 500'000);
  expect_repaired("bin/large", "its bytes are not the chunk's");
}

TEST_F(CheckerTest, AFlippedByteOfAnObjectThatIsOpen) {
  const auto open = object("bin/large");
  ASSERT_TRUE(open->complete());
  flip("bin/large", 500'000);
  expect_repaired("bin/large", "its bytes are not the chunk's");
}

TEST_F(CheckerTest, OnlyTheBadChunksAreLost) {
  flip("bin/large", 500'000);
  repair();
  const auto large = object("bin/large");
  unsigned lacking = 0;
  for (std::uint32_t i = 0; i < image_.manifest->objects().chunk_count(image_.object("bin/large"));
       ++i) {
    lacking += large->has_chunk(i) ? 0 : 1;
  }
  EXPECT_EQ(lacking, 1u);
}

TEST_F(CheckerTest, AFileThatWasCutShort) {
  fs::resize_file(file("bin/large"), 1000);
  expect_repaired("bin/large", "has 1000 bytes instead of 1000000");
}

TEST_F(CheckerTest, AFileThatWasCutShortWhileItIsOpen) {
  const auto open = object("bin/large");
  fs::resize_file(file("bin/large"), 1000);
  expect_repaired("bin/large", "has 1000 bytes instead of 1000000");
}

TEST_F(CheckerTest, AFileOfZeros) {
  fs::resize_file(file("bin/other"), 0);
  fs::resize_file(file("bin/other"), 300'000);
  expect_repaired("bin/other", "its bytes are not the chunk's");
}

TEST_F(CheckerTest, AFileThatIsGone) {
  fs::remove(file("etc/motd"));
  expect_repaired("etc/motd", "there is no file");
}

TEST_F(CheckerTest, AFileThatIsGoneWhileItIsOpen) {
  const auto open = object("bin/large");
  fs::remove(file("bin/large"));
  expect_content("bin/large");
  expect_repaired("bin/large", "there is no file");
  EXPECT_TRUE(open->complete()) << "who had it open goes on with the new file";
}

TEST_F(CheckerTest, ASymlinkInItsPlace) {
  std::ofstream(dir_.path() / "foreign") << "hello";
  const std::string target = dir_.path() / "foreign";
  replace("etc/motd", [&](const char* at) { return ::symlink(target.c_str(), at); });
  expect_repaired("etc/motd", "is a symlink");
}

TEST_F(CheckerTest, AFifoInItsPlaceWhileItIsOpen) {
  const auto open = object("etc/motd");
  replace("etc/motd", [](const char* at) { return ::mkfifo(at, 0444); });
  expect_repaired("etc/motd", "is a fifo");
}

TEST_F(CheckerTest, ADirectoryInItsPlace) {
  replace("etc/motd", [](const char* at) { return ::mkdir(at, 0700); });
  expect_repaired("etc/motd", "is a directory");
}

TEST_F(CheckerTest, ADirectoryWithSomethingInItIsLeftAndSaid) {
  replace("etc/motd", [](const char* at) { return ::mkdir(at, 0700); });
  std::ofstream(file("etc/motd") / "something") << "foreign";
  const Finding finding = one({.repair = true});
  EXPECT_FALSE(finding.mended);
  EXPECT_THAT(finding.remedy, HasSubstr("cannot be mended: "));
  EXPECT_TRUE(fs::exists(file("etc/motd") / "something"));
}

TEST_F(CheckerTest, TwoFilesThatChangedPlaces) {
  const auto open = object("bin/other");
  fs::rename(file("bin/large"), dir_.path() / "x");
  fs::rename(file("bin/other"), file("bin/large"));
  fs::rename(dir_.path() / "x", file("bin/other"));
  const Checked mended = repair();
  ASSERT_EQ(mended.findings.size(), 2u);
  EXPECT_EQ(mended.summary.mended, 2u);
  for (const char* path : {"bin/large", "bin/other"}) {
    EXPECT_FALSE(object(path)->complete());
    put_file(*store_, image_, path);
    expect_content(path);
  }
  EXPECT_OK(store_->mark_resident(*image_.manifest));
  EXPECT_THAT(check().findings, IsEmpty());
}

TEST_F(CheckerTest, ReadersOfAnOpenObjectSeeNoHoleWhenItsFileIsMadeAnew) {
  const auto open = object("bin/large");
  fs::remove(file("bin/large"));
  repair();
  Bytes bytes(16);
  EXPECT_EQ(code_of(open->read(0, bytes)), Errc::kNotFound);
  ASSERT_OK(store_->put_chunk(*open, 3, chunk_bytes(image_, "bin/large", 3)));
  EXPECT_EQ(code_of(open->read(0, bytes)), Errc::kNotFound);
  const auto& chunk = image_.manifest->objects().chunks_of(image_.object("bin/large"))[3];
  ASSERT_OK(open->read(chunk.object_offset, bytes));
  EXPECT_TRUE(std::ranges::equal(bytes, chunk_bytes(image_, "bin/large", 3).first(16)));
}

TEST_F(CheckerTest, ModesThatDoNotAgreeWithTheIndexCloseTheObject) {
  ASSERT_EQ(::chmod(file("bin/other").c_str(), 0400), 0);
  const Finding finding = one({.repair = true});
  EXPECT_THAT(finding.what, HasSubstr("its mode says that it needs a credential"));
  EXPECT_TRUE(finding.mended);
  EXPECT_THAT(check().findings, IsEmpty());
  reopen();
  EXPECT_FALSE(object("bin/other")->complete()) << "it is nobody's";
}

TEST_F(CheckerTest, AFileThatOthersMayChange) {
  ASSERT_EQ(::chmod(file("bin/other").c_str(), 0664), 0);
  EXPECT_THAT(one({.repair = true}).what, HasSubstr("others may change it"));
  EXPECT_THAT(check().findings, IsEmpty());
}

TEST_F(CheckerTest, AFileThatTheIndexDoesNotKnow) {
  const std::string hex(64, 'a');
  fs::create_directories(root() / "objects" / "aa");
  std::ofstream(root() / "objects" / "aa" / hex) << "foreign";
  EXPECT_EQ(one({}).where, "objects/aa/" + hex);
  EXPECT_TRUE(one({.repair = true}).mended);
  EXPECT_FALSE(fs::exists(root() / "objects" / "aa" / hex));
}

TEST_F(CheckerTest, AFifoAmongPartialObjects) {
  const std::string hex(64, 'b');
  fs::create_directories(root() / "partial" / "bb");
  ASSERT_EQ(::mkfifo((root() / "partial" / "bb" / hex).c_str(), 0600), 0);
  EXPECT_EQ(one({.repair = true}).where, "partial/bb/" + hex);
  EXPECT_THAT(check().findings, IsEmpty());
}

// What no image owns has no chunk list.

TEST_F(CheckerTest, UnownedContentThatIsWellStays) {
  ASSERT_OK(store_->remove_image(image_.manifest->digest()));
  const Checked checked = repair();
  EXPECT_THAT(checked.findings, IsEmpty());
  EXPECT_EQ(checked.summary.bytes, 1'300'005u);
  EXPECT_EQ(store_->stats()->unowned_objects, 3u);
}

TEST_F(CheckerTest, UnownedContentThatIsDamagedIsLetGo) {
  ASSERT_OK(store_->remove_image(image_.manifest->digest()));
  flip("bin/large", 999'999);
  const Finding finding = one({.repair = true});
  EXPECT_EQ(finding.where, name("bin/large"));
  EXPECT_THAT(finding.what, HasSubstr("no image owns it"));
  EXPECT_TRUE(finding.mended);
  EXPECT_FALSE(fs::exists(file("bin/large")));
  EXPECT_EQ(store_->stats()->unowned_objects, 2u);
  EXPECT_THAT(check().findings, IsEmpty());
}

// The records of images.

TEST_F(CheckerTest, ADamagedManifest) {
  const fs::path manifest = root() / "manifests" / image_.manifest->digest().hex();
  fs::resize_file(manifest, fs::file_size(manifest) - 1);
  const Finding seen = one({});
  EXPECT_EQ(seen.where, "manifests/" + image_.manifest->digest().hex());
  EXPECT_THAT(seen.images, ElementsAre(image_.manifest->digest()));
  std::vector<Digest> fetched;
  const Finding mended = one({.repair = true, .fetch_manifest = [&](const Digest& digest) {
                                fetched.push_back(digest);
                                return Status();
                              }});
  EXPECT_TRUE(mended.mended);
  EXPECT_THAT(fetched, ElementsAre(image_.manifest->digest()));
}

TEST_F(CheckerTest, WhatADamagedManifestHidesIsLookedAtWithAnotherImage) {
  const auto second = test::ImageMaker()
                          .file("bin/large", test::random_bytes(1'000'000, 1))
                          .file("more", "second")
                          .make();
  ASSERT_OK(add(*store_, second));
  flip("bin/large", 0);
  const auto& first = std::min(image_.manifest->digest(), second.manifest->digest());
  const fs::path manifest = root() / "manifests" / first.hex();
  fs::resize_file(manifest, fs::file_size(manifest) - 1);
  std::set<std::string> where;
  for (const Finding& finding : check().findings) where.insert(finding.where);
  EXPECT_THAT(where, ElementsAre("manifests/" + first.hex(), name("bin/large")));
}

TEST_F(CheckerTest, OwnersThatTheManifestDoesNotHaveAndTheOtherWayRound) {
  for (const char* sql : {"DELETE FROM owner WHERE object = (SELECT MIN(object) FROM owner)",
                          "INSERT INTO owner VALUES(99, 99)"}) {
    store_.reset();
    {
      auto database = Database::open(root() / "index.db", Database::Mode::kCreate);
      ASSERT_OK(database);
      ASSERT_OK(database->run(sql));
    }
    store_ = open_store(root());
    EXPECT_EQ(one({}).where, "index.db");
    EXPECT_TRUE(one({.repair = true}).mended);
    EXPECT_THAT(check().findings, IsEmpty());
    EXPECT_OK(store_->mark_resident(*image_.manifest));  // nothing has to be fetched
  }
}

TEST_F(CheckerTest, AnImageOnRecordAsResidentThatLacksAnObject) {
  store_.reset();
  {
    auto database = Database::open(root() / "index.db", Database::Mode::kCreate);
    ASSERT_OK(database);
    ASSERT_OK(database->run("UPDATE object SET state = 0"));
  }
  store_ = open_store(root());
  EXPECT_EQ(check().findings.size(), 3u);
  EXPECT_EQ(repair().summary.mended, 1u) << "after the first it is not on record any more";
  EXPECT_FALSE(resident());
  EXPECT_THAT(check().findings, IsEmpty());
}

// How it runs.

TEST_F(CheckerTest, CanBeStoppedAndGoesOnWhereItWas) {
  flip("bin/large", 0);
  std::stop_source stop;
  CheckPosition at;
  std::uint64_t objects = 0;
  const auto stopped =
      store_->check({},
                    {.finding = nullptr,
                     .progress =
                         [&](const CheckPosition& position, const CheckSummary& summary) {
                           at = position;
                           objects = summary.objects;
                           if (objects == 1) stop.request_stop();
                         }},
                    stop.get_token());
  EXPECT_EQ(code_of(stopped), Errc::kCancelled);
  const auto position = CheckPosition::parse(at.to_text());
  ASSERT_OK(position);
  const Checked rest = check({.from = *position});
  EXPECT_EQ(objects + rest.summary.objects, 3u);
}

TEST_F(CheckerTest, AStopRequestEndsTheWaitForItsPace) {
  std::stop_source stop;
  std::jthread stopper;
  const auto stopped = store_->check({.bytes_per_second = 1},
                                     {.finding = nullptr,
                                      .progress =
                                          [&](const CheckPosition&, const CheckSummary&) {
                                            if (!stopper.joinable())
                                              stopper = std::jthread([&] { stop.request_stop(); });
                                          }},
                                     stop.get_token());
  EXPECT_EQ(code_of(stopped), Errc::kCancelled);
}

TEST(CheckPositionTest, IsOneLineAndNothingElseIsRead) {
  const CheckPosition position{
      .part = CheckPosition::Part::kImages, .at = sha256(std::string_view("x")), .number = 17};
  const auto again = CheckPosition::parse(position.to_text());
  ASSERT_OK(again);
  EXPECT_EQ(again->part, position.part);
  EXPECT_EQ(again->at, position.at);
  EXPECT_EQ(again->number, 17u);
  for (const char* text : {"", "images", "images 12 3", "nothing here 1"}) {
    EXPECT_EQ(code_of(CheckPosition::parse(text)), Errc::kInvalid) << text;
  }
  EXPECT_EQ(code_of(CheckPosition::parse(position.to_text() + "x")), Errc::kInvalid);
}

TEST(DiskReaderTest, ReadsAnyRange) {
  const TempDir dir;
  const Bytes content = test::random_bytes(20'000, 7);
  ASSERT_OK(replace_file(dir.path() / "file", content));
  auto file = open_file(dir.path() / "file", O_RDONLY);
  ASSERT_OK(file);
  DiskReader reader(std::move(*file));
  for (const auto& [offset, length] :
       {std::pair(0u, 1u), std::pair(4095u, 2u), std::pair(1u, 19'999u), std::pair(8192u, 4096u),
        std::pair(20'000u, 0u)}) {
    const auto bytes = reader.read(offset, length);
    ASSERT_OK(bytes);
    EXPECT_TRUE(std::ranges::equal(*bytes, ByteSpan(content).subspan(offset, length)));
  }
  EXPECT_EQ(code_of(reader.read(19'999, 2)), Errc::kCorrupt);
}

}  // namespace
}  // namespace imsy::cas
