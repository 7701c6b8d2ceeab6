// Where images come from and go to: every kind of SRC and DST.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "cdc/frame.h"
#include "common/io.h"
#include "converter/cli.h"
#include "converter/convert.h"
#include "oci/docker_archive.h"
#include "oci/layout.h"
#include "oci/oci_archive.h"
#include "tests/support/fake_registry.h"
#include "tests/unit/converter/memory_streams.h"

namespace imsy::converter {
namespace {

using oci::tar::Type;
using testing::AllOf;
using testing::HasSubstr;
using testing_support::header;
using testing_support::noise;
using testing_support::TarBuilder;
using testing_support::text;

// A tar of a root filesystem, the same in all tests.
Bytes rootfs_tar() {
  auto tool = header(Type::kRegular, "bin/tool");
  tool.mode = 04755;
  tool.xattrs["user.note"] = "kept";
  auto same = header(Type::kHardLink, "bin/same", "bin/tool");
  same.mode = 04755;
  return TarBuilder()
      .add(header(Type::kDirectory, "./"))
      .add(header(Type::kDirectory, "bin/"))
      .add(tool, noise(300'000, 1))
      .add(same)
      .add(header(Type::kSymlink, "lib", "usr/lib"))
      .finish();
}

// One image of two layers, one of them compressed, and how it is laid down in each kind of place.
struct TestImage {
  Bytes base = rootfs_tar();
  Bytes top = TarBuilder()
                  .add(header(Type::kRegular, "bin/.wh.same"))
                  .add(header(Type::kRegular, "etc/new"), text("new"))
                  .finish();
  Bytes packed = cdc::FrameEncoder(3).encode(base);
  std::string config =
      oci::Json{
          {"architecture", "amd64"},
          {"os", "linux"},
          {"config", {{"Cmd", {"/bin/tool"}}}},
          {"rootfs",
           {{"type", "layers"}, {"diff_ids", {sha256(base).to_string(), sha256(top).to_string()}}}}}
          .dump();

  static oci::Descriptor describe(std::string_view media_type, ByteSpan bytes) {
    oci::Descriptor descriptor;
    descriptor.media_type = media_type;
    descriptor.digest = sha256(bytes);
    descriptor.size = bytes.size();
    return descriptor;
  }
  oci::Document manifest() const {
    oci::Manifest made;
    made.media_type = oci::media_type::kOciManifest;
    made.config = describe(oci::media_type::kOciConfig, as_bytes(config));
    made.layers = {describe(oci::media_type::kOciLayerZstd, packed),
                   describe(oci::media_type::kOciLayer, top)};
    return oci::Document::make(made.media_type, made.to_json());
  }

  void put(oci::ImageTarget& target) const {
    for (const ByteSpan blob : {ByteSpan(packed), ByteSpan(top), as_bytes(config)}) {
      ASSERT_TRUE(target.put_blob(blob, sha256(blob)));
    }
    ASSERT_TRUE(target.put_manifest(manifest(), "v1"));
    ASSERT_TRUE(target.finish({}));
  }
  void put(test::FakeRegistry& registry) const {
    for (const ByteSpan blob : {ByteSpan(packed), ByteSpan(top), as_bytes(config)}) {
      registry.add_blob(std::string(as_text(blob)));
    }
    const auto document = manifest();
    registry.add_manifest("library/web", "v1", document.media_type, document.bytes);
  }

  // What docker save of an old daemon writes: names are ids, equal layers are links.
  Bytes docker_old() const {
    const std::string name = sha256(config).hex() + ".json";
    return TarBuilder()
        .add(header(Type::kDirectory, "aaaa/"))
        .add(header(Type::kRegular, "aaaa/VERSION"), text("1.0"))
        .add(header(Type::kSymlink, "aaaa/layer.tar", "../cccc/layer.tar"))
        .add(header(Type::kDirectory, "bbbb/"))
        .add(header(Type::kRegular, "bbbb/layer.tar"), top)
        .add(header(Type::kRegular, "cccc/layer.tar"), base)
        .add(header(Type::kRegular, name), as_bytes(config))
        .add(header(Type::kRegular, "manifest.json"),
             text(docker_list(name, {"aaaa/layer.tar", "bbbb/layer.tar"})))
        .add(header(Type::kRegular, "repositories"), text("{}"))
        .finish();
  }
  // And of a new one: an OCI layout with manifest.json beside it.
  Bytes docker_new() const {
    const auto path = [](ByteSpan bytes) { return "blobs/sha256/" + sha256(bytes).hex(); };
    return TarBuilder()
        .add(header(Type::kDirectory, "blobs/sha256/"))
        .add(header(Type::kRegular, path(packed)), packed)
        .add(header(Type::kRegular, path(top)), top)
        .add(header(Type::kRegular, path(as_bytes(config))), as_bytes(config))
        .add(header(Type::kRegular, "manifest.json"),
             text(docker_list(path(as_bytes(config)), {path(packed), path(top)})))
        .finish();
  }
  static std::string docker_list(const std::string& config_name,
                                 const std::vector<std::string>& layers) {
    return oci::Json::array(
               {{{"Config", config_name}, {"RepoTags", {"web:v1"}}, {"Layers", layers}}})
        .dump();
  }
};

class SourcesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "imsy-sources-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string at(const std::string& name) const { return (directory_ / name).string(); }
  std::string write(const std::string& name, ByteSpan bytes) {
    EXPECT_TRUE(replace_file(at(name), bytes));
    return at(name);
  }

  struct Outcome {
    int code = 0;
    std::string out;
    std::string err;
  };
  // imsy-convert with these arguments.
  Outcome run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"imsy-convert", "--level=3", "--tmp=" + at("")});
    std::vector<const char*> argv;
    for (const auto& argument : arguments) argv.push_back(argument.c_str());
    std::ostringstream out, err;
    const int code = converter::run(static_cast<int>(argv.size()), argv.data(), out, err);
    return {code, out.str(), err.str()};
  }

  // Converts `source` into a layout and returns the manifest that is there then.
  oci::Manifest convert(const std::string& source, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{source, "oci:" + at("target") + ":c1", "--force"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    if (outcome.code != 0) return {};
    target_ = oci::Layout::open(at("target")).value();
    return oci::parse_manifest(target_->get_manifest("c1").value()).value();
  }
  oci::ImageConfig config_of(const oci::Manifest& manifest) {
    return oci::parse_config(target_->get_blob(manifest.config, 1 << 20).value()).value();
  }
  // The line that a failed conversion writes.
  std::string refusal(const std::string& source, const std::string& target = "") {
    const Outcome outcome = run({source, target.empty() ? "oci:" + at("refused") : target});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1);
    return outcome.err;
  }

  std::filesystem::path directory_;
  std::unique_ptr<oci::Layout> target_;
  const TestImage image_;
};

// Replaces the standard input by a pipe that these bytes come through.
class PipedInput {
 public:
  explicit PipedInput(Bytes bytes) : saved_(::dup(STDIN_FILENO)) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    EXPECT_EQ(::dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    ::close(ends[0]);
    writer_ = std::jthread([end = UniqueFd(ends[1]), bytes = std::move(bytes)] {
      EXPECT_TRUE(write_all(end.get(), bytes));
    });
  }
  ~PipedInput() {
    writer_.join();
    ::dup2(saved_.get(), STDIN_FILENO);
  }

 private:
  const UniqueFd saved_;
  std::jthread writer_;
};

TEST_F(SourcesTest, OneImageGivesTheSameLayersFromEverywhere) {
  test::FakeRegistry registry;
  image_.put(registry);
  image_.put(*oci::Layout::open_or_create(at("layout")).value());
  image_.put(*oci::create_oci_archive(at("oci.tar"), directory_).value());
  const auto expected = convert("oci:" + at("layout"));
  ASSERT_EQ(expected.layers.size(), 2u);
  const std::string old_shape = write("old.tar", image_.docker_old());
  const std::string new_shape = write("new.tar", image_.docker_new());
  const std::string packed = write("new.tar.zst", cdc::FrameEncoder(3).encode(image_.docker_new()));
  for (const std::string& source :
       {registry.host() + "/library/web:v1", "oci:" + at("layout") + ":v1",
        "oci-archive:" + at("oci.tar"), "oci-archive:" + at("oci.tar") + ":v1",
        "docker-archive:" + old_shape, "docker-archive:" + new_shape + ":web:v1",
        "docker-archive:" + packed + ":docker.io/library/web:v1"}) {
    const auto manifest = convert(source, {"--plain-http"});
    ASSERT_EQ(manifest.layers.size(), 2u) << source;
    EXPECT_EQ(manifest.layers[0].digest, expected.layers[0].digest) << source;  // anchor
    EXPECT_EQ(manifest.layers[1].digest, expected.layers[1].digest) << source;  // data
    EXPECT_EQ(config_of(manifest).json["config"]["Cmd"][0], "/bin/tool") << source;
  }
}

TEST_F(SourcesTest, ArchivesComeThroughPipes) {
  image_.put(*oci::create_oci_archive(at("oci.tar"), directory_).value());
  const auto expected = convert("oci-archive:" + at("oci.tar"));
  const auto through_pipe = [&](const std::string& source, const Bytes& bytes) {
    const PipedInput input(bytes);
    return convert(source);
  };
  const Bytes archive = read_file(at("oci.tar"), 1 << 24).value();
  const auto oci = through_pipe("oci-archive:-:v1", archive);
  EXPECT_EQ(oci.layers.at(1).digest, expected.layers[1].digest);
  const auto docker = through_pipe("docker-archive:-", image_.docker_old());
  EXPECT_EQ(docker.layers.at(1).digest, expected.layers[1].digest);
  const auto from_file = convert("tar:" + write("rootfs.tar", image_.base));
  const auto tar = through_pipe("tar:-", image_.packed);
  EXPECT_EQ(tar.layers.at(1).digest, from_file.layers.at(1).digest);
}

TEST_F(SourcesTest, AnOciArchiveIsATargetToo) {
  image_.put(*oci::Layout::open_or_create(at("layout")).value());
  const auto expected = convert("oci:" + at("layout"));
  const auto once = run({"oci:" + at("layout"), "oci-archive:" + at("a.tar") + ":c1"});
  const auto again = run({"oci:" + at("layout"), "oci-archive:" + at("b.tar") + ":c1"});
  ASSERT_EQ(once.code, 0) << once.err;
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_TRUE(read_file(at("a.tar"), 1 << 24).value() == read_file(at("b.tar"), 1 << 24).value());
  const auto archive = oci::open_oci_archive(at("a.tar"), directory_).value();
  const auto manifest = oci::parse_manifest(archive->get_manifest("").value()).value();
  EXPECT_EQ(manifest.layers[1].digest, expected.layers[1].digest);
  EXPECT_EQ(manifest.config.digest, expected.config.digest);
}

TEST_F(SourcesTest, ADockerArchiveIsATargetToo) {
  image_.put(*oci::Layout::open_or_create(at("layout")).value());
  const auto expected = convert("oci:" + at("layout"));
  for (const char* name : {"a.tar", "b.tar"}) {
    const auto outcome = run({"oci:" + at("layout"), "docker-archive:" + at(name) + ":web:v1"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  EXPECT_TRUE(read_file(at("a.tar"), 1 << 24).value() == read_file(at("b.tar"), 1 << 24).value());
  for (const std::string& source :
       {"docker-archive:" + at("a.tar"),
        "docker-archive:" + at("a.tar") + ":docker.io/library/web:v1"}) {
    EXPECT_EQ(convert(source).layers.at(1).digest, expected.layers[1].digest) << source;
  }
  const auto archive = oci::open_docker_archive(at("a.tar"), directory_).value();
  const auto manifest = oci::parse_manifest(archive->get_manifest("web:v1").value()).value();
  EXPECT_EQ(manifest.config.digest, expected.config.digest);
  const auto layout = oci::open_oci_archive(at("a.tar"), directory_).value();
  EXPECT_EQ(oci::parse_manifest(layout->get_manifest("v1").value()).value().layers.at(1).digest,
            expected.layers[1].digest);
  ASSERT_EQ(run({"oci:" + at("layout"), "docker-archive:" + at("c.tar")}).code, 0);
  EXPECT_EQ(oci::open_docker_archive(at("c.tar"), directory_)
                .value()
                ->get_manifest("web:v1")
                .error()
                .code(),
            Errc::kNotFound);
}

TEST_F(SourcesTest, ADockerArchiveHoldsOneImage) {
  const auto layout = oci::Layout::open_or_create(at("layout")).value();
  image_.put(*layout);
  auto one = layout->entries().value().at(0);
  oci::Index index;
  index.media_type = oci::media_type::kOciIndex;
  one.annotations.clear();
  for (const char* arch : {"amd64", "arm64"}) {
    one.platform = oci::Platform{"linux", arch, "", ""};
    index.manifests.push_back(one);
  }
  ASSERT_TRUE(layout->put_manifest(oci::Document::make(oci::media_type::kOciIndex, index.to_json()),
                                   "both"));
  const std::string source = "oci:" + at("layout") + ":both";
  const std::string target = "docker-archive:" + at("one.tar") + ":web:v1";
  EXPECT_THAT(refusal(source, target), HasSubstr("choose one with --platform"));
  EXPECT_FALSE(std::filesystem::exists(at("one.tar")));
  const auto chosen = run({source, target, "--platform=linux/amd64"});
  ASSERT_EQ(chosen.code, 0) << chosen.err;
  EXPECT_TRUE(oci::open_docker_archive(at("one.tar"), directory_).value()->get_manifest("web:v1"));
}

TEST_F(SourcesTest, ADockerArchiveListsTheImageThatWasConverted) {
  const auto layout = oci::Layout::open_or_create(at("layout")).value();
  image_.put(*layout);
  auto image = layout->entries().value().at(0);
  image.annotations.clear();
  oci::Manifest thing;
  thing.media_type = oci::media_type::kOciManifest;
  thing.artifact_type = "application/vnd.example.thing";
  thing.config.media_type = oci::media_type::kOciEmpty;
  thing.config.digest = sha256("{}");
  thing.config.size = 2;
  ASSERT_TRUE(layout->put_blob(as_bytes("{}"), thing.config.digest));
  const auto artifact = oci::Document::make(thing.media_type, thing.to_json());
  ASSERT_TRUE(layout->put_manifest(artifact, ""));
  oci::Index index;
  index.media_type = oci::media_type::kOciIndex;
  index.manifests = {artifact.describe(), image};
  index.manifests[0].platform = oci::Platform{"linux", "amd64", "", ""};
  ASSERT_TRUE(layout->put_manifest(oci::Document::make(oci::media_type::kOciIndex, index.to_json()),
                                   "mixed"));
  const auto outcome = run({"oci:" + at("layout") + ":mixed", "docker-archive:" + at("a.tar")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto archive = oci::open_docker_archive(at("a.tar"), directory_).value();
  EXPECT_EQ(oci::parse_manifest(archive->get_manifest("").value())->layers.size(), 2u);
}

TEST_F(SourcesTest, ATargetWithoutATagIsCalledLatest) {
  image_.put(*oci::Layout::open_or_create(at("layout")).value());
  ASSERT_EQ(run({"oci:" + at("layout"), "oci:" + at("target")}).code, 0);
  EXPECT_TRUE(oci::Layout::open(at("target")).value()->find("latest"));
}

TEST_F(SourcesTest, ARootFilesystemGetsTheSmallestConfiguration) {
  const std::string tar = "tar:" + write("rootfs.tar", image_.base);
  const auto manifest = convert(tar, {"--platform=linux/arm/v7"});
  const auto config = config_of(manifest);
  EXPECT_EQ(config.platform.os, "linux");
  EXPECT_EQ(config.platform.architecture, "arm");
  EXPECT_EQ(config.platform.variant, "v7");
  EXPECT_EQ(config.json["config"], oci::Json::object());
  EXPECT_FALSE(config.json.contains("created"));
  const auto again = convert(tar, {"--platform=linux/arm/v7"});
  EXPECT_EQ(again.config.digest, manifest.config.digest);
  const auto here = config_of(convert(tar));
  EXPECT_EQ(here.platform.os, "linux");
  EXPECT_FALSE(here.platform.architecture.empty());
  for (const char* platform : {"windows/amd64", "linux", "linux/", "linux/arm/v7/x"}) {
    const auto outcome = run({tar, "oci:" + at("x"), "--platform=" + std::string(platform)});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr("/ARCH[/VARIANT]"));
  }
}

// The same tree as rootfs_tar(), on disk.
TEST_F(SourcesTest, ADirectoryIsWhatATarOfItIs) {
  const auto root = directory_ / "root";
  std::filesystem::create_directories(root / "bin");
  write("root/bin/tool", noise(300'000, 1));
  ASSERT_EQ(::link((root / "bin/tool").c_str(), (root / "bin/same").c_str()), 0);
  ASSERT_EQ(::symlink("usr/lib", (root / "lib").c_str()), 0);
  const timespec times[2] = {{1'700'000'000, 0}, {1'700'000'000, 0}};
  for (const char* name : {"bin/tool", "lib", "bin", "."}) {
    const std::string path = root / name;
    ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
  }
  for (const char* name : {"bin", "."}) ASSERT_EQ(::chmod((root / name).c_str(), 0755), 0);
  ASSERT_EQ(::chmod((root / "bin/tool").c_str(), 04755), 0);
  if (::setxattr((root / "bin/tool").c_str(), "user.note", "kept", 4, 0) != 0) {
    GTEST_SKIP() << "this file system takes no extended attributes";
  }
  if (::geteuid() != 0) GTEST_SKIP() << "the tar belongs to root";
  const auto from_tar = convert("tar:" + write("rootfs.tar", image_.base));
  const auto from_directory = convert("dir:" + root.string());
  EXPECT_EQ(from_directory.layers.at(1).digest, from_tar.layers.at(1).digest);
  EXPECT_EQ(from_directory.layers.at(0).digest, from_tar.layers.at(0).digest);
}

TEST_F(SourcesTest, ADirectoryThatChangesMeanwhileIsRefused) {
  const auto root = directory_ / "root";
  std::filesystem::create_directories(root);
  write("root/file", text("before"));
  oci::HttpClient http;
  const auto location = Location::parse("dir:" + root.string()).value();
  const auto source = open_source(location, {http, false, directory_, {}}).value();
  const auto manifest = oci::parse_manifest(source->get_manifest("").value()).value();
  write("root/file", text("behind"));
  const auto read = source->get_blob(manifest.layers[0], 1 << 20);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), Errc::kCorrupt);
  EXPECT_THAT(read.error().message(), HasSubstr("changed while it was read"));
}

TEST_F(SourcesTest, SaysWhatIsMissingOrWrong) {
  EXPECT_THAT(refusal("oci-archive:" + at("absent.tar")), HasSubstr("absent.tar"));
  EXPECT_THAT(refusal("dir:" + at("absent")), HasSubstr("absent"));
  const std::string empty = write("empty.tar", TarBuilder().finish());
  EXPECT_THAT(refusal("oci-archive:" + empty), HasSubstr("no OCI image layout"));
  EXPECT_THAT(refusal("docker-archive:" + empty), HasSubstr("manifest.json"));
  const Bytes whole = image_.docker_old();
  const std::string cut = write("cut.tar", ByteSpan(whole).first(whole.size() / 2));
  EXPECT_THAT(refusal("docker-archive:" + cut), HasSubstr("ends in the middle"));
  EXPECT_THAT(refusal("tar:" + cut), HasSubstr("ends in the middle"));
  const std::string docker = write("docker.tar", whole);
  EXPECT_THAT(refusal("docker-archive:" + docker + ":web:v2"),
              AllOf(HasSubstr("no image web:v2"), HasSubstr("web:v1")));

  const auto two = oci::create_oci_archive(at("two.tar"), directory_).value();
  image_.put(*oci::Layout::open_or_create(at("layout")).value());
  ASSERT_TRUE(two->put_manifest(image_.manifest(), "v1"));
  ASSERT_TRUE(two->put_manifest(image_.manifest(), "v2"));
  ASSERT_TRUE(two->finish({}));
  EXPECT_THAT(refusal("oci-archive:" + at("two.tar")), HasSubstr("v1, v2"));
  // The blobs were not put.
  EXPECT_THAT(refusal("oci-archive:" + at("two.tar") + ":v1"),
              HasSubstr("blob " + sha256(image_.config).to_string()));
}

TEST_F(SourcesTest, AProfileOfAnotherImageIsToldOf) {
  image_.put(*oci::Layout::open_or_create(at("layout")).value());
  const auto warned = [&](const std::string& profile) {
    const std::string file = write("profile", as_bytes("imsy-profile 1\n" + profile));
    testing::internal::CaptureStderr();
    const auto outcome =
        run({"oci:" + at("layout"), "oci:" + at("target"), "--force", "--profile=" + file});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(warned("0 4096 not/there\n"), HasSubstr("no path of the profile " + at("profile")));
  EXPECT_EQ(warned("0 4096 not/there\n0 4096 bin/tool\n"), "");
}

TEST_F(SourcesTest, ErrorsNameTheTargetAsItWasGiven) {
  image_.put(*oci::Layout::open_or_create(at("layout")).value());
  for (const std::string kind : {"oci-archive:", "docker-archive:"}) {
    const std::string target = kind + at("layout");  // a directory
    EXPECT_THAT(refusal("oci:" + at("layout"), target), HasSubstr("imsy-convert: " + target));
  }
}

TEST_F(SourcesTest, AnEmptyTarIsRefused) {
  for (const Bytes& nothing : {Bytes(), cdc::FrameEncoder(3).encode({})}) {
    const std::string file = write("empty", nothing);
    EXPECT_THAT(refusal("tar:" + file), AllOf(HasSubstr("tar:" + file), HasSubstr("is empty")));
    const PipedInput input(nothing);
    EXPECT_THAT(refusal("tar:-"), HasSubstr("is empty"));
  }
  EXPECT_FALSE(std::filesystem::exists(at("refused")));
}

TEST_F(SourcesTest, QuietOrNotTheDigestIsPrinted) {
  image_.put(*oci::Layout::open_or_create(at("layout")).value());
  const std::vector<std::string> args = {"oci:" + at("layout"), "oci:" + at("target"), "--quiet"};
  const auto quiet = run(args);
  ASSERT_EQ(quiet.code, 0) << quiet.err;
  const auto found = oci::Layout::open(at("target")).value()->find("latest").value();
  EXPECT_EQ(quiet.out, found.digest.to_string() + "\n");
  EXPECT_EQ(quiet.err, "");
  std::ostringstream err;
  std::ostringstream broken;
  broken.setstate(std::ios::badbit);
  const std::vector<const char*> argv = {"imsy-convert", "--level=3", args[0].c_str(),
                                         args[1].c_str()};
  EXPECT_EQ(converter::run(4, argv.data(), broken, err), 1);
  EXPECT_THAT(err.str(), AllOf(HasSubstr("cannot write to standard output"),
                               HasSubstr(found.digest.to_string())));
}

TEST_F(SourcesTest, AReportThatCannotBeWrittenIsFoundBeforeAnythingIsPublished) {
  image_.put(*oci::Layout::open_or_create(at("layout")).value());
  for (const std::string& report : {at("no/where.json"), at("layout")}) {
    const auto outcome = run({"oci:" + at("layout"), "oci:" + at("target"), "--report=" + report});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr(report));
    EXPECT_FALSE(std::filesystem::exists(at("target")));
  }
  const std::string report = at("report.json");
  const auto outcome = run({"oci:" + at("layout"), "oci:" + at("target"), "--report=" + report});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const auto json = oci::Json::parse(as_text(read_file(report, 1 << 20).value()));
  EXPECT_EQ(json["digest"].get<std::string>() + "\n", outcome.out);
}

TEST_F(SourcesTest, AReportGoesIntoWhatCannotBeReplaced) {
  image_.put(*oci::Layout::open_or_create(at("layout")).value());
  const std::string pipe = at("pipe");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const UniqueFd reader(::open(pipe.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  const auto outcome = run({"oci:" + at("layout"), "oci:" + at("target"), "--report=" + pipe});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  Bytes got(1 << 16);
  got.resize(read_some(reader.get(), got).value());
  EXPECT_EQ(oci::Json::parse(as_text(got))["digest"].get<std::string>() + "\n", outcome.out);
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
}

TEST_F(SourcesTest, ADamagedLayerLeavesNoTarget) {
  Bytes archive = image_.docker_old();
  const std::string content = std::string(as_text(noise(300'000, 1)).substr(1000, 64));
  archive[as_text(archive).find(content)] ^= std::byte{1};
  const std::string source = "docker-archive:" + write("damaged.tar", archive);
  const std::string target = "oci-archive:" + at("result.tar");
  EXPECT_THAT(refusal(source, target),
              AllOf(HasSubstr("layer " + sha256(image_.base).to_string()), HasSubstr("damaged")));
  EXPECT_FALSE(std::filesystem::exists(at("result.tar")));
}

TEST_F(SourcesTest, SomeKindsCanOnlyBeRead) {
  for (const std::string kind : {"tar:", "dir:"}) {
    EXPECT_THAT(refusal("oci:" + at("layout"), kind + at("x")),
                AllOf(HasSubstr("can only be read"), HasSubstr("oci-archive:FILE[:tag|@digest]")));
  }
  EXPECT_THAT(refusal("oci:" + at("layout"), "oci-archive:-"), HasSubstr("name a file"));
  const std::string digest = sha256("x").to_string();
  EXPECT_THAT(refusal("oci:" + at("layout"), "127.0.0.1:5000/a@" + digest), HasSubstr("a tag"));
  EXPECT_THAT(refusal("oci:" + at("layout"), "docker-archive:" + at("x") + ":a@" + digest),
              HasSubstr("a tag"));
  EXPECT_THAT(refusal("oci:" + at("layout"), "oci:" + at("x") + "@" + digest), HasSubstr("a tag"));
  EXPECT_FALSE(std::filesystem::exists(at("x@sha256")));
}

TEST(LocationTest, TakesEachFormApart) {
  const auto registry = Location::parse("127.0.0.1:5000/a/b:t").value();
  EXPECT_EQ(registry.host, "127.0.0.1:5000");
  EXPECT_EQ(registry.repository, "a/b");
  EXPECT_EQ(registry.object, "t");
  const auto expect = [](const std::string& text, const std::string& path,
                         const std::string& object) {
    const auto location = Location::parse(text);
    ASSERT_TRUE(location) << text;
    EXPECT_EQ(location->path, path) << text;
    EXPECT_EQ(location->object, object) << text;
  };
  expect("oci:/tmp/x:y/dir:tag", "/tmp/x:y/dir", "tag");
  expect("oci:dir", "dir", "");
  const std::string digest = sha256("x").to_string();
  expect("oci:/tmp/x:y/dir@" + digest, "/tmp/x:y/dir", digest);
  expect("oci-archive:a.tar@" + digest, "a.tar", digest);
  expect("oci-archive:/tmp/x:y/a.tar:tag", "/tmp/x:y/a.tar", "tag");
  expect("oci-archive:-", "-", "");
  expect("oci-archive:-:v1", "-", "v1");
  expect("docker-archive:a.tar", "a.tar", "");
  expect("docker-archive:a.tar:127.0.0.1:5000/a/b:1", "a.tar", "127.0.0.1:5000/a/b:1");
  expect("tar:/tmp/a:b.tar", "/tmp/a:b.tar", "");
  expect("dir:/", "/", "");
}

TEST(LocationTest, RefusesWhatItDoesNotKnow) {
  for (const char* text :
       {"oci:", "oci::tag", "oci:dir@sha256:00", "oci-archive:", "docker-archive:a.tar:Upper",
        "tar:", "dir:", "docker://web", "https://registry.example/web", "Upper/Case"}) {
    EXPECT_FALSE(Location::parse(text)) << text;
  }
  EXPECT_THAT(Location::parse("docker://web").error().message(), HasSubstr("oci-archive:FILE"));
}

}  // namespace
}  // namespace imsy::converter
