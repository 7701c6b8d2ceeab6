// imsy unpack and imsy export: the tree comes out as it went in.
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cli/image/squashed.h"
#include "cli/image/tree_writer.h"
#include "cli/image/unpack.h"
#include "common/log.h"
#include "tests/support/fake_registry.h"
#include "tests/unit/cli/image_fixture.h"

namespace imsy::cli {
namespace {

namespace fs = std::filesystem;
using oci::tar::Header;
using oci::tar::Type;
using testing::AllOf;
using testing::HasSubstr;

// Ours, so that no privileges are needed.
Header own(Header entry) {
  entry.uid = ::geteuid();
  entry.gid = ::getegid();
  return entry;
}

Bytes with_hole() {
  Bytes bytes = noise(10'000, 5);
  bytes.resize(5'000'000);
  append(bytes, noise(10'000, 6));
  return bytes;
}

Bytes own_tar() {
  auto root = own(header(Type::kDirectory, "./"));
  root.mode = 0750;
  auto folder = own(header(Type::kDirectory, "closed/"));
  folder.mode = 0500;
  auto tool = own(header(Type::kRegular, "closed/tool"));
  tool.mode = 04755;
  tool.mtime_ns = 123'456'789;
  auto same = tool;  // a link's header sets the attributes of the file
  same.type = Type::kHardLink;
  same.name = "closed/same";
  same.link = "closed/tool";
  auto link = own(header(Type::kSymlink, "link", "/etc/passwd"));
  link.mtime_s = 1'000'000'000;
  return TarBuilder()
      .add(root)
      .add(folder)
      .add(tool, noise(600'000, 1))
      .add(same)
      .add(own(header(Type::kRegular, "copy")), noise(600'000, 1))
      .add(own(header(Type::kRegular, "empty")))
      .add(own(header(Type::kFifo, "fifo")))
      .add(own(header(Type::kRegular, "sparse")), with_hole())
      .add(own(header(Type::kRegular, "sparse copy")), with_hole())
      .add(link)
      .add(own(header(Type::kRegular, "odd \n\xff name")), text("odd"))
      .finish();
}

struct stat facts(const fs::path& path) {
  struct stat st {};
  EXPECT_EQ(::lstat(path.c_str(), &st), 0) << path;
  return st;
}

class UnpackTest : public ImageTest {
 protected:
  ~UnpackTest() override {
    // So that the directory can be removed without privileges.
    for (const char* name : {"out", "out2"})
      ::chmod(at(std::string(name) + "/closed").c_str(), 0700);
  }
  void unpack(const std::string& ref, const std::string& name) {
    const Ran ran = run_imsy({"unpack", ref, at(name)});
    ASSERT_EQ(ran.code, kExitDone) << ran.err;
    EXPECT_EQ(ran.out, "");
  }
  void expect_tree(const fs::path& root) {
    EXPECT_EQ(facts(root).st_mode & 07777u, 0750u);
    EXPECT_EQ(facts(root).st_mtim.tv_sec, 1'700'000'000);
    EXPECT_EQ(facts(root / "closed").st_mode & 07777u, 0500u);
    EXPECT_EQ(facts(root / "closed").st_mtim.tv_sec, 1'700'000'000);
    const auto tool = facts(root / "closed/tool");
    EXPECT_EQ(tool.st_mode & 07777u, 04755u);
    EXPECT_EQ(tool.st_mtim.tv_nsec, 123'456'789);
    EXPECT_EQ(tool.st_nlink, 2u);
    EXPECT_EQ(facts(root / "closed/same").st_ino, tool.st_ino);
    EXPECT_EQ(read_all(root / "closed/tool"), as_text(noise(600'000, 1)));
    EXPECT_EQ(read_all(root / "copy"), as_text(noise(600'000, 1)));
    EXPECT_EQ(facts(root / "copy").st_nlink, 1u);
    EXPECT_EQ(facts(root / "empty").st_size, 0);
    EXPECT_TRUE(S_ISFIFO(facts(root / "fifo").st_mode));
    for (const char* name : {"sparse", "sparse copy"}) {
      EXPECT_EQ(read_all(root / name), as_text(with_hole())) << name;
      EXPECT_LT(facts(root / name).st_blocks * 512, 100'000) << name;
    }
    EXPECT_EQ(fs::read_symlink(root / "link"), "/etc/passwd");
    EXPECT_EQ(facts(root / "link").st_mtim.tv_sec, 1'000'000'000);
    EXPECT_EQ(read_all(root / "odd \n\xff name"), "odd");
    EXPECT_EQ(names_in(root).size(), 8u);
  }
};

TEST_F(UnpackTest, WritesTheTreeOfAConvertedImage) {
  add_both("v1", {own_tar()});
  unpack(converted("v1"), "out");
  expect_tree(at("out"));
}

TEST_F(UnpackTest, AndOfAnOrdinaryOne) {
  add_plain("v1", {TarBuilder().add(own(header(Type::kRegular, "hidden")), text("x")).finish(),
                   own_tar(), TarBuilder().add(header(Type::kRegular, ".wh.hidden")).finish()});
  fs::create_directory(at("out"));  // an empty one will do
  unpack(plain("v1"), "out/");
  expect_tree(at("out"));
}

TEST_F(UnpackTest, ExtendedAttributesDevicesAndOwnersNeedRoot) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  auto noted = header(Type::kRegular, "noted");
  noted.uid = 1234;
  noted.gid = 5678;
  noted.mode = 02755;
  const std::string capability("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  noted.xattrs["security.capability"] = capability;
  auto device = header(Type::kCharDevice, "null");
  device.device_major = 1;
  device.device_minor = 3;
  add_both("v1", {TarBuilder().add(noted, text("noted")).add(device).finish()});
  const Ran ran = run_imsy({"unpack", converted("v1"), at("out")});
  ASSERT_EQ(ran.code, kExitDone) << ran.err;
  const auto st = facts(at("out/noted"));
  EXPECT_EQ(st.st_uid, 1234u);
  EXPECT_EQ(st.st_gid, 5678u);
  EXPECT_EQ(st.st_mode & 07777u, 02755u);
  char value[64];
  const ssize_t got = ::lgetxattr(at("out/noted").c_str(), "security.capability", value, 64);
  EXPECT_EQ(std::string(value, static_cast<std::size_t>(std::max<ssize_t>(got, 0))), capability);
  EXPECT_TRUE(S_ISCHR(facts(at("out/null")).st_mode));
  EXPECT_EQ(facts(at("out/null")).st_rdev, makedev(1, 3));
}

TEST_F(UnpackTest, WritesOnlyToANewOrEmptyDirectory) {
  add_both("v1", {own_tar()});
  fs::create_directory(at("full"));
  write_file(at("full/file"), "precious");
  write_file(at("file"), "precious");
  fs::create_directory_symlink(at("plain"), at("link"));
  for (const char* name : {"full", "file", "link"}) {
    EXPECT_THAT(refusal({"unpack", converted("v1"), at(name)}),
                AllOf(HasSubstr(at(name)), HasSubstr("is not an empty directory")));
  }
  EXPECT_EQ(read_all(at("full/file")), "precious");
  EXPECT_THAT(refusal({"unpack", converted("v1"), "."}), HasSubstr("name a new one"));
  EXPECT_THAT(refusal({"unpack", converted("v1"), ""}), HasSubstr("directory \"\""));
  EXPECT_THAT(refusal({"unpack", converted("v1"), at("no/where")}), HasSubstr("no/"));
}

TEST_F(UnpackTest, TheImageMustBeForThePlatform) {
  add_both("v1", {own_tar()});
  EXPECT_THAT(refusal({"unpack", converted("v1"), at("out"), "--platform", "linux/riscv64"}),
              HasSubstr(converted("v1") + ": holds no image for linux/riscv64"));
  EXPECT_EQ(run_imsy({"unpack", converted("v1"), at("out"), "--platform", "linux/x86_64"}).code,
            kExitDone);
}

TEST_F(UnpackTest, APlaceForTemporaryFilesThatIsNoneIsAnError) {
  add_both("v1", {own_tar()});
  ::setenv("TMPDIR", at("nowhere").c_str(), 1);
  EXPECT_THAT(refusal({"unpack", converted("v1"), at("out")}), HasSubstr("$TMPDIR"));
  ::unsetenv("TMPDIR");
}

// More than are named one by one.
TEST_F(UnpackTest, AttributesThatTheFileSystemRefusesAreLeftOutWithAWarning) {
  TarBuilder tar;
  for (int i = 0; i < 12; ++i) {
    auto link = own(header(Type::kSymlink, "link" + std::to_string(i), "to"));
    link.xattrs["user.note"] = "kept in the image";
    tar.add(link);
  }
  add_both("v1", {tar.finish()});
  ASSERT_TRUE(log::configure("warn"));
  testing::internal::CaptureStderr();
  const Ran ran = run_imsy({"unpack", converted("v1"), at("out")});
  const std::string warned = testing::internal::GetCapturedStderr();
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_TRUE(fs::is_symlink(at("out") + "/link11"));
  EXPECT_THAT(warned, AllOf(HasSubstr("link3: extended attribute user.note is left out"),
                            HasSubstr("and 2 more extended attributes are left out")));
  EXPECT_EQ(std::count(warned.begin(), warned.end(), '\n'), 11);
}

TEST_F(UnpackTest, AFailureLeavesNothing) {
  add_both("v1", {own_tar()});
  const auto layer = manifest_of("v1").layers[1];
  const Bytes right = blob(layer);
  const auto before = names_in(at(""));
  // The last one is behind the frames, where the blob's digest is found wrong when all is written.
  for (const std::size_t position : {right.size() / 2, anchor_of("v1").manifest_offset - 1}) {
    Bytes wrong = right;
    wrong[position] ^= std::byte{1};
    ASSERT_TRUE(replace_file(blob_file(layer), wrong));
    EXPECT_THAT(refusal({"unpack", converted("v1"), at("out")}), HasSubstr(converted("v1")));
    EXPECT_EQ(names_in(at("")), before);
  }
  ASSERT_TRUE(replace_file(blob_file(layer), right));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(run_imsy({"unpack", converted("v1"), at("out")}, "", stop.get_token()).code,
            kExitFailed);
  EXPECT_EQ(names_in(at("")), before);
}

TEST_F(UnpackTest, AStopRequestEndsItAtAnyStageAndLeavesNothing) {
  add_both("v1", {own_tar()});
  const auto before = names_in(at(""));
  const auto manifest = cdc_manifest_of("v1");
  const auto expect_stopped = [&](const auto& run) {
    std::stop_source stop;
    const Status status = run(stop);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code(), Errc::kCancelled) << status.error().message();
    EXPECT_EQ(names_in(at("")), before);
  };
  expect_stopped([&](std::stop_source& stop) -> Status {
    stop.request_stop();
    const auto tree = image::TreeWriter::create(at("out"), manifest->tree(), stop.get_token());
    return tree ? Status() : tree.error();
  });
  expect_stopped([&](std::stop_source& stop) -> Status {
    IMSY_TRY_ASSIGN(const auto tree,
                    image::TreeWriter::create(at("out"), manifest->tree(), stop.get_token()));
    EXPECT_TRUE(tree->write(0, 0, text("b")));
    stop.request_stop();
    return tree->write(0, 1, text("c"));
  });
  expect_stopped([&](std::stop_source& stop) -> Status {
    IMSY_TRY_ASSIGN(const auto tree,
                    image::TreeWriter::create(at("out"), manifest->tree(), stop.get_token()));
    stop.request_stop();
    return tree->finish();
  });
  expect_stopped([&](std::stop_source& stop) -> Status {
    const auto found = converter::read_image(*plain_, plain_->get_manifest("v1").value()).value();
    const auto squashed = image::squash(*plain_, found, {}, {}, at("")).value();
    stop.request_stop();
    return image::unpack(squashed, at("out"), stop.get_token());
  });
}

TEST_F(UnpackTest, AFailureLeavesNothingOfADeepTree) {
  std::string path;
  for (int i = 0; i < 1000; ++i) path += "d/";
  auto deep = own(header(Type::kDirectory, path));
  deep.mode = 0;
  add_both("v1", {TarBuilder()
                      .add(own(header(Type::kDirectory, "0/")))
                      .add(deep)
                      .add(own(header(Type::kRegular, path + "file")), noise(3000, 1))
                      .finish()});
  const auto layer = manifest_of("v1").layers[1];
  Bytes wrong = blob(layer);
  wrong[anchor_of("v1").manifest_offset - 1] ^= std::byte{1};
  ASSERT_TRUE(replace_file(blob_file(layer), wrong));
  const auto before = names_in(at(""));
  rlimit usual{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &usual), 0);
  const rlimit few{std::min<rlim_t>(usual.rlim_cur, 100), usual.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  refusal({"unpack", converted("v1"), at("out")});
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &usual), 0);
  EXPECT_EQ(names_in(at("")), before);
}

// What root may do without permissions, others may not.
class UnprivilegedTest : public UnpackTest {
 protected:
  UnprivilegedTest() : user_(::geteuid() == 0 ? 65534 : ::geteuid()) {
    ::chmod(at("").c_str(), 0777);
  }
  Header of_user(Header entry, std::uint32_t mode) const {
    entry.uid = user_;
    entry.gid = ::getegid();
    entry.mode = mode;
    return entry;
  }
  std::string refusal_as_user(const std::vector<std::string>& args) {
    const uid_t before = ::geteuid();
    EXPECT_EQ(::seteuid(user_), 0);
    std::string line = refusal(args);
    EXPECT_EQ(::seteuid(before), 0);
    return line;
  }

  const uid_t user_;
};

TEST_F(UnprivilegedTest, AFailureLeavesNothingOfDirectoriesWithoutPermissions) {
  auto root = header(Type::kDirectory, "./");
  root.uid = 1234;  // cannot be given away, and is set last
  add_both("v1", {TarBuilder()
                      .add(root)
                      .add(of_user(header(Type::kDirectory, "a/"), 0555))
                      .add(of_user(header(Type::kDirectory, "a/b/"), 0))
                      .add(of_user(header(Type::kDirectory, "a/b/c/"), 0555))
                      .add(of_user(header(Type::kRegular, "a/b/c/file"), 0), text("x"))
                      .finish()});
  const auto before = names_in(at(""));
  EXPECT_THAT(refusal_as_user({"unpack", converted("v1"), at("out")}), HasSubstr("chown"));
  EXPECT_EQ(names_in(at("")), before);
}

// One content of some bytes, and so many files with it that copying would never end.
TEST_F(UnpackTest, FilesLargerThanTheirTarAreRefused) {
  add_both("v1", {TarBuilder().add(own(header(Type::kRegular, "a")), noise(60'000, 1)).finish()});
  const auto manifest = cdc_manifest_of("v1");
  cdc::TreeBuilder builder(cdc::TreeBuilder::Attributes{});
  cdc::TreeBuilder::Attributes file;
  file.type = cdc::NodeType::kRegular;
  file.object = builder.add_object(60'000);
  for (int i = 0; i < 100; ++i) builder.add(cdc::TreeBuilder::kRoot, std::to_string(i), file);
  const cdc::Tree tree = builder.build(nullptr).value();
  auto parts = parts_of(*manifest);
  parts.tree = &tree;
  forge("v1", parts, "v1");
  EXPECT_THAT(refusal({"unpack", converted("v1"), at("out")}),
              HasSubstr("has files of 6000000 bytes, but the tar has "));
}

TEST_F(UnpackTest, ForeignLayersAreFetchedWhenAllowed) {
  test::FakeRegistry elsewhere;
  const Bytes tar = own_tar();
  elsewhere.fault("GET", "/layer", test::FakeRegistry::kAlways,
                  [&](const test::FakeRequest&, test::FakeResponse& response) {
                    response = test::FakeResponse();
                    response.body = std::string(as_text(tar));
                  });
  add_foreign("v1", tar, elsewhere.endpoint() + "/layer");
  EXPECT_THAT(refusal({"unpack", plain("v1"), at("out"), "--plain-http"}),
              HasSubstr("--allow-foreign-layers"));
  EXPECT_EQ(elsewhere.count("GET", "/layer"), 0u);
  const Ran ran =
      run_imsy({"unpack", plain("v1"), at("out"), "--plain-http", "--allow-foreign-layers"});
  ASSERT_EQ(ran.code, kExitDone) << ran.err;
  expect_tree(at("out"));
}

TEST_F(UnpackTest, OneImageOfAnIndexHasToBeNamed) {
  const auto amd = add_plain("amd", {own_tar()});
  const auto arm =
      add_plain("arm", {TarBuilder().add(own(header(Type::kRegular, "arm"))).finish()}, "arm64");
  add_index("v1", {{"amd64", amd}, {"arm64", arm}});
  EXPECT_THAT(refusal({"unpack", plain("v1"), at("out")}),
              AllOf(HasSubstr("linux/amd64, linux/arm64"), HasSubstr("--platform")));
  EXPECT_EQ(run_imsy({"unpack", plain("v1"), at("out"), "--platform", "linux/amd64"}).code,
            kExitDone);
  expect_tree(at("out"));
}

// Names with ".." or "/" cannot get into a tree; a symlink is all that could lead out of it.
TEST_F(UnpackTest, SymlinksOfTheImageAreNeverFollowed) {
  fs::create_directory(at("outside"));
  add_both("v1", {TarBuilder()
                      .add(own(header(Type::kSymlink, "a", at("outside"))))
                      .add(own(header(Type::kRegular, "b")), noise(300'000, 1))
                      .add(own(header(Type::kHardLink, "c", "a")))
                      .finish()});
  unpack(converted("v1"), "out");
  EXPECT_TRUE(names_in(at("outside")).empty());
  EXPECT_EQ(facts(at("out/a")).st_ino, facts(at("out/c")).st_ino);
  EXPECT_TRUE(S_ISLNK(facts(at("out/c")).st_mode));
}

class ExportTest : public UnpackTest {
 protected:
  std::string exported(const std::string& tag) { return "oci:" + at("exported") + ":" + tag; }
  std::string run_export(const std::string& from, const std::string& to,
                         const std::string& compression) {
    const Ran ran = run_imsy({"export", from, to, "--compress", compression});
    EXPECT_EQ(ran.code, kExitDone) << ran.err;
    return ran.out;
  }
};

TEST_F(ExportTest, GivesAPlainImageOfTheSameTree) {
  add_both("v1", {own_tar()});
  for (const char* compression : {"zstd", "gzip", "none"}) {
    const std::string digest = run_export(converted("v1"), exported(compression), compression);
    const auto layout = oci::Layout::open(at("exported")).value();
    const auto document = layout->get_manifest(compression).value();
    EXPECT_EQ(digest, document.digest.to_string() + "\n");
    EXPECT_EQ(document.bytes.find("imsy."), std::string::npos) << document.bytes;
    const auto manifest = oci::parse_manifest(document).value();
    ASSERT_EQ(manifest.layers.size(), 1u);
    EXPECT_THAT(manifest.layers[0].media_type,
                compression == std::string("none") ? HasSubstr(".tar") : HasSubstr(compression));
    const auto config =
        oci::parse_config(layout->get_blob(manifest.config, 1 << 20).value()).value();
    EXPECT_EQ(config.json["config"]["Cmd"][0], "/bin/tool");
    EXPECT_EQ(config.json["history"].size(), 1u);
    EXPECT_EQ(config.diff_ids[0], anchor_of("v1").data_layers[0].diff_id);
    EXPECT_EQ(run_export(converted("v1"), exported("again"), compression), digest);
    // The tree is that of the original, says the proof made for converted images.
    const Ran ran = run_imsy({"check", converted("v1"), "--against", exported(compression)});
    EXPECT_EQ(ran.code, kExitDone) << ran.err << ran.out;
  }
  unpack(exported("gzip"), "out2");
  expect_tree(at("out2"));
}

TEST_F(ExportTest, AnIndexStaysAnIndex) {
  const auto amd = add_plain("amd", {own_tar()});
  const auto arm =
      add_plain("arm", {TarBuilder().add(own(header(Type::kRegular, "arm"))).finish()}, "arm64");
  add_index("v1", {{"amd64", amd}, {"arm64", arm}});
  convert("v1");
  run_export(converted("v1"), exported("v1"), "zstd");
  const auto layout = oci::Layout::open(at("exported")).value();
  const auto index = oci::parse_index(layout->get_manifest("v1").value()).value();
  ASSERT_EQ(index.manifests.size(), 2u);
  EXPECT_EQ(index.manifests[1].platform->architecture, "arm64");
  const Ran ran = run_imsy({"check", converted("v1"), "--against", exported("v1")});
  EXPECT_EQ(ran.code, kExitDone) << ran.err << ran.out;
}

TEST_F(ExportTest, WhatItRefuses) {
  add_both("v1", {own_tar()});
  EXPECT_THAT(refusal({"export", plain("v1"), exported("x")}), HasSubstr("is an ordinary image"));
  EXPECT_THAT(refusal({"export", converted("v1"), "dir:" + at("x")}),
              HasSubstr("can only be read"));
  EXPECT_EQ(run_imsy({"export", converted("v1"), exported("x"), "--compress", "xz"}).code,
            kExitUsage);
  const auto layer = manifest_of("v1").layers[1];
  Bytes wrong = blob(layer);
  wrong[wrong.size() / 2] ^= std::byte{1};
  ASSERT_TRUE(replace_file(blob_file(layer), wrong));
  for (const char* compression : {"zstd", "gzip", "none"}) {
    refusal({"export", converted("v1"), exported("x"), "--compress", compression});
  }
  EXPECT_FALSE(oci::Layout::open(at("exported")).value()->find("x"));
}

}  // namespace
}  // namespace imsy::cli
