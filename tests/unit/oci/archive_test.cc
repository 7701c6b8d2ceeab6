// Images in archives: the archives are made byte by byte, also the wrong ones.
#include "oci/archive.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zstd.h>

#include <thread>

#include "oci/docker_archive.h"
#include "oci/layout.h"
#include "oci/oci_archive.h"
#include "tests/unit/oci/support.h"
#include "tests/unit/oci/tar_bytes.h"

namespace imsy::oci {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 1));
  return out;
}

std::string link(std::string_view name, std::string_view target, char type = '2') {
  return tar::Block(name, type).link(target).str();
}

class ArchiveTest : public ::testing::Test {
 protected:
  // The archive of these entries in a file.
  std::filesystem::path file(const std::string& entries) {
    return dir_.write("archive.tar", entries + tar::end());
  }
  std::string refusal(const std::string& entries) {
    const auto archive = Archive::open(file(entries), dir_.path());
    return archive ? "accepted" : archive.error().message();
  }
  static Result<std::string> content(const Archive& archive, const std::string& path) {
    IMSY_TRY_ASSIGN(const auto found, archive.open(path));
    IMSY_TRY_ASSIGN(std::string text, read_all(*found.content));
    EXPECT_EQ(found.size, text.size());
    return text;
  }

  TempDir dir_;
};

TEST_F(ArchiveTest, GivesFilesByNameHoweverTheNameIsSpelled) {
  const std::string large = noise(300'000);
  const auto archive = Archive::open(
      file(tar::entry("./a", "first") + tar::Block("d/", '5').str() + tar::entry("d//b", large) +
           tar::entry("/c", "") + tar::gnu_long(std::string(200, 'n')) + tar::entry("x", "long")),
      dir_.path());
  ASSERT_TRUE(archive) << archive.error().message();
  EXPECT_EQ(*content(**archive, "a"), "first");
  EXPECT_TRUE(*content(**archive, "d/b") == large);
  EXPECT_EQ(*content(**archive, "c"), "");
  EXPECT_EQ(*content(**archive, std::string(200, 'n')), "long");
  EXPECT_EQ((*archive)->open("d").error().code(), Errc::kNotFound);
  EXPECT_EQ((*archive)->open("absent").error().code(), Errc::kNotFound);
}

TEST_F(ArchiveTest, LinksLeadToFilesOfTheArchiveOnly) {
  const auto archive = Archive::open(
      file(link("early/layer.tar", "../d/file") + tar::entry("d/file", "content") +
           link("hard", "d/file", '1') + link("d/self", "self") + link("nowhere", "d/absent")),
      dir_.path());
  ASSERT_TRUE(archive) << archive.error().message();
  EXPECT_EQ(*content(**archive, "early/layer.tar"), "content");
  EXPECT_EQ(*content(**archive, "hard"), "content");
  EXPECT_THAT((*archive)->open("d/self").error().message(), HasSubstr("too many links"));
  EXPECT_THAT((*archive)->open("nowhere").error().message(),
              HasSubstr("no file d/absent, to which nowhere is a link"));
  for (const char* target : {"/etc/passwd", "../../etc/passwd", "../.."}) {
    EXPECT_THAT(refusal(link("d/out", target)), HasSubstr("d/out: is a link that leads out"));
  }
}

TEST_F(ArchiveTest, RefusesNamesThatMeanNothingOrTwoThings) {
  EXPECT_THAT(refusal(tar::entry("../x", "")), HasSubstr("\"..\""));
  EXPECT_THAT(refusal(link("a", "../x", '1')), HasSubstr("\"..\""));
  EXPECT_THAT(refusal(tar::entry("a", "1") + tar::entry("./a", "2")), HasSubstr("two files"));
  EXPECT_THAT(refusal(tar::gnu_long(std::string(2000, 'x')) + tar::entry("x", "")),
              HasSubstr("longer than 1024"));
  EXPECT_THAT(
      refusal(tar::pax(tar::record("GNU.sparse.major", "0") + tar::record("GNU.sparse.minor", "1") +
                       tar::record("GNU.sparse.size", "4") + tar::record("GNU.sparse.map", "0,1")) +
              tar::entry("s", "x")),
      HasSubstr("sparse"));
}

TEST_F(ArchiveTest, RefusesMoreFilesThanTheLimit) {
  std::string entries;
  for (int i = 0; i <= 65'536; ++i) entries += tar::Block(std::to_string(i)).str();
  EXPECT_THAT(refusal(entries), HasSubstr("more than 65536 files"));
}

TEST_F(ArchiveTest, FindsThatItIsCutShortOrNoTar) {
  const std::string whole = tar::entry("a", noise(2000));
  for (const std::size_t size : {100u, 600u, 2000u}) {
    const auto cut = Archive::open(dir_.write("cut", whole.substr(0, size)), dir_.path());
    EXPECT_EQ(cut.error().code(), Errc::kCorrupt) << size;
  }
  EXPECT_EQ(Archive::open(dir_.write("html", std::string(2000, '<')), dir_.path()).error().code(),
            Errc::kCorrupt);
  EXPECT_EQ(Archive::open(dir_.path() / "absent", dir_.path()).error().code(), Errc::kNotFound);
  EXPECT_FALSE(Archive::open(dir_.path(), dir_.path()));
  const std::string packed = zstd(whole);
  EXPECT_EQ(Archive::open(dir_.write("z", packed.substr(0, packed.size() - 3)), dir_.path())
                .error()
                .code(),
            Errc::kCorrupt);
}

TEST_F(ArchiveTest, CompressedOnesAndPipesAreKept) {
  const std::string text = noise(200'000);
  const std::string bytes = tar::entry("a", text) + tar::end();
  const auto packed = Archive::open(dir_.write("packed", zstd(bytes)), dir_.path());
  ASSERT_TRUE(packed) << packed.error().message();
  EXPECT_TRUE(*content(**packed, "a") == text);

  const auto fifo = dir_.path() / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  std::thread writer([&] { std::ofstream(fifo) << bytes; });
  const auto piped = Archive::open(fifo, dir_.path());
  writer.join();
  ASSERT_TRUE(piped) << piped.error().message();
  EXPECT_TRUE(*content(**piped, "a") == text);
  EXPECT_TRUE(*content(**piped, "a") == text);
}

// What is kept of an archive that is compressed is bounded as a layer is.
TEST_F(ArchiveTest, ACompressedBombFillsNoDisk) {
  const std::string zeros = zstd(std::string(60u << 20, '\0'));
  const auto bomb = dir_.write("bomb", zstd(tar::entry("a", "a")) + zeros + zeros + zeros);
  const auto archive = Archive::open(bomb, dir_.path());
  ASSERT_FALSE(archive);
  EXPECT_EQ(archive.error().code(), Errc::kInvalid);
  EXPECT_THAT(archive.error().message(), HasSubstr("the limit of 1000 times"));
}

TEST_F(ArchiveTest, BeginsWhereTheFileThatWasHandedOverStands) {
  auto input = open_file(dir_.write("in", "skip" + tar::entry("a", "x") + tar::end()), O_RDONLY);
  ASSERT_TRUE(input);
  ASSERT_EQ(::lseek(input->get(), 4, SEEK_SET), 4);
  const auto archive = Archive::read(std::move(*input), dir_.path());
  ASSERT_TRUE(archive) << archive.error().message();
  EXPECT_EQ(*content(**archive, "a"), "x");
}

// --- OCI archives ---

Document manifest_about(const std::string& name) {
  Manifest manifest;
  manifest.media_type = media_type::kOciManifest;
  manifest.config = descriptor_of("{}");
  manifest.annotations = {{"name", name}};
  return Document::make(manifest.media_type, manifest.to_json());
}

class OciArchiveTest : public ArchiveTest {
 protected:
  // What is written through `write` into a new archive.
  template <typename Write>
  std::filesystem::path make(const std::string& name, Write write) {
    auto target = create_oci_archive(dir_.path() / name, dir_.path()).value();
    write(*target);
    const auto finished = target->finish({});
    EXPECT_TRUE(finished) << finished.error().message();
    return dir_.path() / name;
  }
  std::unique_ptr<ImageSource> open(const std::filesystem::path& path) {
    auto source = open_oci_archive(path, dir_.path());
    EXPECT_TRUE(source) << source.error().message();
    return std::move(source).value();
  }
};

TEST_F(OciArchiveTest, GivesBackWhatItTook) {
  const std::string blob = noise(3'000'000);
  const Document first = manifest_about("first");
  const Document second = manifest_about("second");
  const auto path = make("a.tar", [&](ImageTarget& target) {
    auto writer = target.create_blob().value();
    ASSERT_TRUE(target.put_blob(as_bytes("small"), sha256("small")));  // between
    ASSERT_TRUE(writer->write(as_bytes(blob).first(1'000'000)));
    ASSERT_TRUE(writer->write(as_bytes(blob).subspan(1'000'000)));
    ASSERT_TRUE(writer->commit(sha256(blob)));
    ASSERT_TRUE(target.put_blob(as_bytes("small"), sha256("small")));  // once is enough
    ASSERT_TRUE(target.put_manifest(first, "v1"));
    ASSERT_TRUE(target.put_manifest(first, "v2"));
    ASSERT_TRUE(target.put_manifest(second, "v2"));  // moves the tag
  });
  const auto source = open(path);
  EXPECT_EQ(source->name(), "oci-archive:" + path.string());
  EXPECT_EQ(source->get_manifest("v1")->digest, first.digest);
  EXPECT_EQ(source->get_manifest("v2")->digest, second.digest);
  EXPECT_EQ(source->get_manifest(first.digest.to_string())->bytes, first.bytes);
  EXPECT_EQ(*source->get_blob(descriptor_of("small"), 10), "small");
  EXPECT_TRUE(*read_all(**source->open_blob(descriptor_of(blob))) == blob);
  EXPECT_EQ(source->open_blob(descriptor_of("absent")).error().code(), Errc::kNotFound);
}

TEST_F(OciArchiveTest, SaysWhichTagsThereAre) {
  const auto path = make("a.tar", [](ImageTarget& target) {
    ASSERT_TRUE(target.put_manifest(manifest_about("x"), "v1"));
    ASSERT_TRUE(target.put_manifest(manifest_about("y"), "v2"));
  });
  const auto source = open(path);
  const auto unnamed = source->get_manifest("");
  EXPECT_EQ(unnamed.error().code(), Errc::kInvalid);
  EXPECT_THAT(unnamed.error().message(), HasSubstr("v1, v2"));
  const auto other = source->get_manifest("v3");
  EXPECT_EQ(other.error().code(), Errc::kNotFound);
  EXPECT_THAT(other.error().message(), AllOf(HasSubstr("no tag v3"), HasSubstr("v1, v2")));
}

TEST_F(OciArchiveTest, TheSameCallsMakeTheSameBytes) {
  const auto write = [](ImageTarget& target) {
    ASSERT_TRUE(target.put_blob(as_bytes("small"), sha256("small")));
    ASSERT_TRUE(target.put_manifest(manifest_about("x"), "v1"));
  };
  const auto once = read_file(make("a.tar", write), 1 << 20);
  const auto again = read_file(make("b.tar", write), 1 << 20);
  ASSERT_TRUE(once && again);
  EXPECT_TRUE(*once == *again);
}

TEST_F(OciArchiveTest, IsNotThereBeforeItIsFinished) {
  const auto path = dir_.write("a.tar", "what was there");
  {
    auto target = create_oci_archive(path, dir_.path()).value();
    ASSERT_TRUE(target->put_manifest(manifest_about("x"), "v1"));
    auto writer = target->create_blob().value();
    ASSERT_TRUE(writer->write(as_bytes("content")));
    EXPECT_EQ(writer->commit(sha256("other")).error().code(), Errc::kCorrupt);
    EXPECT_EQ(target->put_blob(as_bytes("a"), sha256("b")).error().code(), Errc::kCorrupt);
  }
  EXPECT_EQ(as_text(*read_file(path, 100)), "what was there");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_.path()), {}), 1);
  EXPECT_FALSE(create_oci_archive(dir_.path() / "absent" / "a.tar", dir_.path()));
}

TEST_F(OciArchiveTest, DamageIsFoundWhenItIsRead) {
  const std::string blob = noise(5000);
  const std::string name = "blobs/sha256/" + sha256(blob).hex();
  std::string damaged = blob;
  damaged[1000] = static_cast<char>(damaged[1000] ^ 1);
  const std::string head = tar::entry("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}") +
                           tar::entry("index.json", "{\"schemaVersion\":2,\"manifests\":[]}");
  const auto source = open(file(head + tar::entry(name, damaged)));
  const auto read = read_all(**source->open_blob(descriptor_of(blob)));
  EXPECT_EQ(read.error().code(), Errc::kCorrupt);
  const auto shorter = open(file(head + tar::entry(name, blob.substr(1))));
  EXPECT_EQ(shorter->open_blob(descriptor_of(blob)).error().code(), Errc::kCorrupt);
}

TEST_F(OciArchiveTest, RefusesWhatIsNoLayout) {
  const auto refused = [&](const std::string& entries) {
    const auto source = open_oci_archive(file(entries), dir_.path());
    return source ? "accepted" : source.error().message();
  };
  EXPECT_THAT(refused(""), HasSubstr("is no OCI image layout: has no file oci-layout"));
  EXPECT_THAT(refused(tar::entry("oci-layout", "{\"imageLayoutVersion\":\"2\"}")),
              HasSubstr("version"));
  EXPECT_THAT(refused(tar::entry("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}")),
              HasSubstr("index.json"));
  EXPECT_THAT(refused(tar::entry("oci-layout", std::string(5u << 20, ' '))), HasSubstr("limit"));
}

// --- docker archives ---

// An image with a layer that is compressed and one that is not, as `docker save` lists it.
struct SavedImage {
  std::string first = noise(40'000, 1);
  std::string second = noise(500, 2);
  std::string packed = zstd(first);

  std::string config() const {
    const Json json{{"architecture", "amd64"},
                    {"os", "linux"},
                    {"rootfs",
                     {{"type", "layers"},
                      {"diff_ids", {sha256(first).to_string(), sha256(second).to_string()}}}}};
    return json.dump();
  }
  std::string config_name() const { return sha256(config()).hex() + ".json"; }
};

std::string listing(const std::string& config, const std::vector<std::string>& layers,
                    const std::vector<std::string>& tags = {"web:1"}) {
  return Json{{"Config", config}, {"RepoTags", tags}, {"Layers", layers}}.dump();
}
std::string manifest_json(const std::vector<std::string>& images) {
  std::string text = "[";
  for (const auto& image : images) text += (text.size() == 1 ? "" : ",") + image;
  return tar::entry("manifest.json", text + "]");
}

class DockerArchiveTest : public ArchiveTest {
 protected:
  Result<Manifest> manifest(const std::string& entries, const std::string& reference = "") {
    IMSY_TRY_ASSIGN(source_, open_docker_archive(file(entries), dir_.path()));
    IMSY_TRY_ASSIGN(const Document document, source_->get_manifest(reference));
    EXPECT_EQ(document.digest, sha256(document.bytes));
    return parse_manifest(document);
  }
  std::string refused(const std::string& entries, const std::string& reference = "") {
    const auto made = manifest(entries, reference);
    return made ? "accepted" : made.error().message();
  }
  Result<std::string> blob(const Descriptor& descriptor) {
    IMSY_TRY_ASSIGN(const auto reader, source_->open_blob(descriptor));
    return read_all(*reader);
  }

  const SavedImage image_;
  std::unique_ptr<ImageSource> source_;
};

TEST_F(DockerArchiveTest, ReadsTheShapeOfOldDaemons) {
  const auto made =
      manifest(manifest_json({listing(image_.config_name(), {"aa/layer.tar", "bb/layer.tar"})}) +
               tar::entry("aa/VERSION", "1.0") + tar::entry("aa/layer.tar", image_.packed) +
               link("bb/layer.tar", "../cc/layer.tar") + tar::entry("cc/layer.tar", image_.second) +
               tar::entry(image_.config_name(), image_.config()));
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(*blob(made->config), image_.config());
  ASSERT_EQ(made->layers.size(), 2u);
  EXPECT_EQ(made->layers[0].digest, sha256(image_.packed));
  EXPECT_EQ(made->layers[0].media_type, media_type::kOciLayerZstd);
  EXPECT_TRUE(*blob(made->layers[0]) == image_.packed);
  EXPECT_EQ(made->layers[1].digest, sha256(image_.second));
  EXPECT_EQ(made->layers[1].media_type, media_type::kOciLayer);
  EXPECT_TRUE(*blob(made->layers[1]) == image_.second);
  EXPECT_FALSE(source_->open_blob(descriptor_of("other")));
}

TEST_F(DockerArchiveTest, ReadsTheShapeOfNewDaemons) {
  const auto path = [](const std::string& bytes) { return "blobs/sha256/" + sha256(bytes).hex(); };
  const auto made = manifest(
      tar::entry(path(image_.packed), image_.packed) +
      tar::entry(path(image_.second), image_.second) +
      tar::entry(path(image_.config()), image_.config()) +
      tar::entry("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}") +
      tar::entry("index.json", "{\"schemaVersion\":2,\"manifests\":[]}") +
      manifest_json({listing(path(image_.config()), {path(image_.packed), path(image_.second)})}));
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_EQ(made->layers[0].digest, sha256(image_.packed));
  EXPECT_TRUE(*blob(made->layers[0]) == image_.packed);
  EXPECT_TRUE(*blob(made->layers[1]) == image_.second);
}

TEST_F(DockerArchiveTest, ImagesAreNamedByReferencesInAnyForm) {
  const std::string entries =
      manifest_json({listing(image_.config_name(), {"a", "b"}, {"web:1", "web:latest"}),
                     listing("other.json", {}, {"127.0.0.1:5000/x/y:2"})}) +
      tar::entry("a", image_.first) + tar::entry("b", image_.second) +
      tar::entry(image_.config_name(), image_.config()) +
      tar::entry("other.json", "{\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\"}}");
  for (const char* name : {"web:1", "web", "docker.io/library/web:1"}) {
    const auto made = manifest(entries, name);
    ASSERT_TRUE(made) << made.error().message();
    EXPECT_EQ(made->layers.size(), 2u);
  }
  EXPECT_EQ(manifest(entries, "127.0.0.1:5000/x/y:2")->layers.size(), 0u);
  const std::string all = "web:1, web:latest, 127.0.0.1:5000/x/y:2";
  EXPECT_THAT(refused(entries), AllOf(HasSubstr("several images"), HasSubstr(all)));
  EXPECT_THAT(refused(entries, "web:3"), AllOf(HasSubstr("no image web:3"), HasSubstr(all)));
}

TEST_F(DockerArchiveTest, NamesWhatIsMissingOrWrong) {
  const std::string config = tar::entry(image_.config_name(), image_.config());
  const std::string layers = tar::entry("a", image_.first) + tar::entry("b", image_.second);
  const auto listed = [&](const std::vector<std::string>& names) {
    return manifest_json({listing(image_.config_name(), names)});
  };
  EXPECT_THAT(refused(""), HasSubstr("is no docker archive: has no file manifest.json"));
  EXPECT_THAT(refused(manifest_json({})), HasSubstr("holds no image"));
  EXPECT_THAT(refused(listed({"a", "b"}) + layers), HasSubstr("no file " + image_.config_name()));
  EXPECT_THAT(refused(listed({"a", "x/layer.tar"}) + config + layers),
              HasSubstr("layer 2: has no file x/layer.tar"));
  EXPECT_THAT(refused(listed({"a"}) + config + layers),
              AllOf(HasSubstr("1 layers"), HasSubstr("2 diffIDs")));
  EXPECT_THAT(refused(listed({"../a"}) + config + layers), HasSubstr("\"..\""));
  EXPECT_THAT(refused(listed({"a", "b"}) + tar::entry(image_.config_name(), "{}") + layers),
              HasSubstr("is damaged"));
  EXPECT_THAT(refused(tar::entry("manifest.json", "{}")), HasSubstr("must be an array"));
  EXPECT_THAT(refused(manifest_json({"{\"Config\":5}"})), HasSubstr("manifest.json[0].Config"));
}

// Whatever a link of the archive says, only its files are read.
TEST_F(DockerArchiveTest, LayersThatLeadOutOrInCirclesAreRefused) {
  const std::string head = manifest_json({listing(image_.config_name(), {"aa/layer.tar", "b"})}) +
                           tar::entry(image_.config_name(), image_.config()) +
                           tar::entry("b", image_.second);
  for (const char* target : {"/etc/passwd", "../../etc/passwd", "../../../../proc/self/exe"}) {
    EXPECT_THAT(refused(head + link("aa/layer.tar", target)),
                AllOf(HasSubstr("aa/layer.tar"), HasSubstr("leads out of the archive")));
  }
  EXPECT_THAT(refused(head + link("aa/layer.tar", "../etc/passwd")),
              HasSubstr("has no file etc/passwd"));
  EXPECT_THAT(refused(head + link("aa/layer.tar", "other") + link("aa/other", "layer.tar")),
              HasSubstr("too many links"));
  EXPECT_THAT(refused(head + tar::Block("aa/layer.tar", '5').str()),
              HasSubstr("has no file aa/layer.tar"));
}

TEST_F(DockerArchiveTest, NamesThatStandTwiceAreRefused) {
  const std::string all = tar::entry("a", image_.first) + tar::entry("b", image_.second) +
                          tar::entry(image_.config_name(), image_.config()) +
                          manifest_json({listing(image_.config_name(), {"a", "b"})});
  EXPECT_EQ(refused(all), "accepted");
  EXPECT_THAT(refused(all + tar::entry("./a", image_.second)), HasSubstr("two files of this name"));
  EXPECT_THAT(refused(all + manifest_json({})), HasSubstr("two files of this name"));
}

TEST_F(DockerArchiveTest, ALayerThatIsNotItsDiffIdFailsAtItsEnd) {
  std::string other = image_.second;
  other[7] = static_cast<char>(other[7] ^ 1);
  const auto made = manifest(manifest_json({listing(image_.config_name(), {"a", "b"})}) +
                             tar::entry(image_.config_name(), image_.config()) +
                             tar::entry("a", image_.first) + tar::entry("b", other));
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_TRUE(blob(made->layers[0]));
  const auto read = blob(made->layers[1]);
  EXPECT_EQ(read.error().code(), Errc::kCorrupt);
  EXPECT_THAT(read.error().message(), HasSubstr(": b: is damaged"));
}

TEST_F(DockerArchiveTest, ControlCharactersOfTagsStayOutOfMessages) {
  const std::string entries = manifest_json({listing("a", {}, {"x\n\033[2J"}), listing("b", {})});
  EXPECT_THAT(refused(entries), AllOf(HasSubstr("\\x0a"), Not(HasSubstr("\n"))));
}

}  // namespace
}  // namespace imsy::oci
