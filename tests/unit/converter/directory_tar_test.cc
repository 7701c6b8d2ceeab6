// A directory tree as a tar: what is in it, and what is never followed.
#include "converter/directory_tar.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>

#include "common/io.h"
#include "common/log.h"
#include "oci/tar/tar.h"
#include "tests/unit/converter/memory_streams.h"

namespace imsy::converter {
namespace {

using oci::tar::Header;
using oci::tar::Type;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::noise;
using testing_support::text;

struct Found {
  Header header;
  Bytes content;
};

class DirectoryTarTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "imsy-dirtar-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    std::filesystem::create_directory(root());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::filesystem::path root() const { return directory_ / "root"; }
  std::string at(const std::string& name) const { return (root() / name).string(); }
  void write(const std::string& name, ByteSpan bytes = {}) {
    ASSERT_TRUE(replace_file(at(name), bytes, 0644));
  }

  // All entries in order, read in pieces of an odd size.
  Result<std::vector<Found>> read() {
    IMSY_TRY_ASSIGN(const auto stream, open_directory_tar(root(), Warn::kNo));
    oci::tar::Reader tar(*stream);
    std::vector<Found> all;
    for (;;) {
      Found found;
      IMSY_TRY_ASSIGN(const bool more, tar.next(found.header));
      if (!more) return all;
      Bytes piece(10'007);
      for (;;) {
        IMSY_TRY_ASSIGN(const std::size_t got, tar.read(piece));
        if (got == 0) break;
        append(found.content, ByteSpan(piece).first(got));
      }
      all.push_back(std::move(found));
    }
  }
  std::map<std::string, Found> by_name() {
    auto all = read();
    EXPECT_TRUE(all) << all.error().message();
    std::map<std::string, Found> named;
    for (auto& found : all.value()) named[found.header.name] = found;
    return named;
  }
  std::vector<std::string> names() {
    const auto all = read();
    EXPECT_TRUE(all) << all.error().message();
    std::vector<std::string> found;
    for (const Found& entry : all.value()) found.push_back(entry.header.name);
    return found;
  }
  std::string refusal() {
    const auto all = read();
    return all ? "accepted" : all.error().message();
  }

  std::filesystem::path directory_;
};

TEST_F(DirectoryTarTest, GivesNamesSortedAsBytesAndDirectoriesFirst) {
  std::filesystem::create_directories(root() / "b/deep/er");
  write("b/z");
  write("a");
  write("b.c");
  write("\xff");
  EXPECT_THAT(names(), ElementsAre("./", "a", "b/", "b/deep/", "b/deep/er/", "b/z", "b.c", "\xff"));
}

TEST_F(DirectoryTarTest, KeepsContentAndAttributes) {
  const Bytes content = noise(100'000, 1);
  write("file", content);
  ASSERT_EQ(::chmod(at("file").c_str(), 06711), 0);
  const timespec times[2] = {{1, 2}, {1'600'000'000, 123'456'789}};
  ASSERT_EQ(::utimensat(AT_FDCWD, at("file").c_str(), times, 0), 0);
  ASSERT_EQ(::mkfifo(at("fifo").c_str(), 0600), 0);
  ASSERT_EQ(::symlink("/nowhere", at("link").c_str()), 0);
  const auto found = by_name();
  const Header& file = found.at("file").header;
  EXPECT_EQ(file.type, Type::kRegular);
  EXPECT_EQ(file.mode, 06711u);
  EXPECT_EQ(file.uid, ::geteuid());
  EXPECT_EQ(file.mtime_s, 1'600'000'000);
  EXPECT_EQ(file.mtime_ns, 123'456'789u);
  EXPECT_TRUE(found.at("file").content == content);
  EXPECT_EQ(found.at("fifo").header.type, Type::kFifo);
  EXPECT_EQ(found.at("link").header.type, Type::kSymlink);
  EXPECT_EQ(found.at("link").header.link, "/nowhere");
}

TEST_F(DirectoryTarTest, KeepsExtendedAttributes) {
  write("file");
  std::filesystem::create_directory(root() / "d");
  const std::string value("\0\xff=\n", 4);
  if (::setxattr(at("file").c_str(), "user.note", value.data(), value.size(), 0) != 0) {
    GTEST_SKIP() << "this file system takes no extended attributes";
  }
  ASSERT_EQ(::setxattr(at("d").c_str(), "user.empty", "", 0, 0), 0);
  const auto found = by_name();
  EXPECT_EQ(found.at("file").header.xattrs.at("user.note"), value);
  EXPECT_EQ(found.at("d/").header.xattrs.at("user.empty"), "");
}

TEST_F(DirectoryTarTest, HardLinksShareOneContent) {
  write("b", text("content"));
  ASSERT_EQ(::link(at("b").c_str(), at("a").c_str()), 0);
  ASSERT_EQ(::link(at("b").c_str(), at("c").c_str()), 0);
  const auto found = by_name();
  EXPECT_EQ(found.at("a").header.type, Type::kRegular);
  EXPECT_EQ(found.at("a").content, text("content"));
  for (const char* name : {"b", "c"}) {
    EXPECT_EQ(found.at(name).header.type, Type::kHardLink);
    EXPECT_EQ(found.at(name).header.link, "a");
  }
}

TEST_F(DirectoryTarTest, HolesReadAsZeros) {
  write("sparse");
  const auto file = open_file(at("sparse"), O_WRONLY);
  ASSERT_TRUE(file);
  ASSERT_TRUE(pwrite_all(file->get(), text("end"), 5'000'000));
  Bytes expected(5'000'000);
  append(expected, text("end"));
  EXPECT_TRUE(by_name().at("sparse").content == expected);
}

TEST_F(DirectoryTarTest, NothingIsEverFollowed) {
  std::filesystem::create_directory(directory_ / "outside");
  ASSERT_TRUE(replace_file(directory_ / "outside/secret", text("secret")));
  ASSERT_EQ(::symlink("../outside", at("d").c_str()), 0);
  ASSERT_EQ(::symlink("../outside/secret", at("f").c_str()), 0);
  ASSERT_EQ(::symlink(".", at("loop").c_str()), 0);
  EXPECT_THAT(names(), ElementsAre("./", "d", "f", "loop"));
  const auto found = by_name();
  for (const auto& [name, entry] : found) EXPECT_TRUE(entry.content.empty()) << name;
}

TEST_F(DirectoryTarTest, SocketsAreLeftOut) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  at("socket").copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  write("z");
  EXPECT_THAT(names(), ElementsAre("./", "z"));
}

TEST_F(DirectoryTarTest, KeepsDevices) {
  if (::mknod(at("null").c_str(), S_IFCHR | 0666, makedev(1, 3)) != 0) {
    GTEST_SKIP() << "making devices needs privileges";
  }
  const auto found = by_name();
  EXPECT_EQ(found.at("null").header.type, Type::kCharDevice);
  EXPECT_EQ(found.at("null").header.device_major, 1u);
  EXPECT_EQ(found.at("null").header.device_minor, 3u);
}

TEST_F(DirectoryTarTest, ADeviceThatWouldBeAWhiteoutIsLeftOutWithAWarning) {
  if (::mknod(at("hidden").c_str(), S_IFCHR | 0666, makedev(0, 0)) != 0) {
    GTEST_SKIP() << "making devices needs privileges";
  }
  write("z");
  ASSERT_TRUE(log::configure("warn"));
  EXPECT_THAT(names(), ElementsAre("./", "z"));
  const auto stream = open_directory_tar(root(), Warn::kYes).value();
  Bytes buffer(4096);
  testing::internal::CaptureStderr();
  while (stream->read(buffer).value() > 0) {
  }
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::HasSubstr("a character device 0:0 is left out path=hidden"));
}

TEST_F(DirectoryTarTest, RefusesNamesThatWouldBeWhiteouts) {
  std::filesystem::create_directory(root() / "d");
  write("d/.wh.x");
  EXPECT_THAT(refusal(), HasSubstr("d/.wh.x: an image cannot carry"));
}

TEST_F(DirectoryTarTest, RefusesMoreThanAnImageMayHaveBeforeItIsRead) {
  write("sparse");
  ASSERT_EQ(::truncate(at("sparse").c_str(), off_t{1} << 42), 0);
  const auto refused = read();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kInvalid);
  EXPECT_THAT(refused.error().message(), AllOf(HasSubstr("sparse"), HasSubstr("limit")));
}

TEST_F(DirectoryTarTest, NamesTheFileThatBecameShorter) {
  write("a", noise(4'000'000, 1));
  const auto stream = open_directory_tar(root(), Warn::kNo).value();
  Bytes begin(10'000);  // both headers, and the first bytes of the content
  for (std::size_t have = 0; have < begin.size();) {
    have += stream->read(std::span(begin).subspan(have)).value();
  }
  std::filesystem::resize_file(root() / "a", 1000);
  const auto got = stream->read(begin);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), Errc::kCorrupt);
  EXPECT_EQ(got.error().message(), "a: became shorter while it was read");
}

TEST_F(DirectoryTarTest, OpensDirectoriesOnly) {
  write("file");
  EXPECT_FALSE(open_directory_tar(root() / "file", Warn::kNo));
  EXPECT_EQ(open_directory_tar(root() / "absent", Warn::kNo).error().code(), Errc::kNotFound);
  ASSERT_EQ(::symlink("root", (directory_ / "link").c_str()), 0);
  EXPECT_TRUE(open_directory_tar(directory_ / "link", Warn::kNo));
}

}  // namespace
}  // namespace imsy::converter
