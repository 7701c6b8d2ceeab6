// imsy check: what it proves, and that it names whatever is wrong.
#include <functional>

#include "tests/support/fake_registry.h"
#include "tests/unit/cli/image_fixture.h"

namespace imsy::cli {
namespace {

using oci::tar::Header;
using oci::tar::Type;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

Bytes sample_tar() {
  auto tool = header(Type::kRegular, "bin/tool");
  tool.mode = 04755;
  return TarBuilder()
      .add(header(Type::kDirectory, "bin/"))
      .add(tool, noise(600'000, 1))
      .add(header(Type::kHardLink, "bin/same", "bin/tool"))
      .add(header(Type::kRegular, "copy"), noise(600'000, 1))
      .add(header(Type::kRegular, "empty"))
      .add(header(Type::kRegular, "one"), noise(3000, 2))
      .add(header(Type::kRegular, "two"), noise(3000, 3))
      .add(header(Type::kSymlink, "link", "one"))
      .finish();
}

class CheckTest : public ImageTest {
 protected:
  std::string check(const std::string& tag = "v1") { return refusal({"check", converted(tag)}); }
};

TEST_F(CheckTest, ProvesWhatImsyConvertWrites) {
  add_both("v1", {sample_tar(), TarBuilder()
                                    .add(header(Type::kRegular, ".wh.two"))
                                    .add(header(Type::kRegular, "etc/new"), text("new"))
                                    .finish()});
  const Ran ran = run_imsy({"check", converted("v1")});
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("linux/amd64 proved: "));
  const Ran against = run_imsy({"check", converted("v1"), "--against", plain("v1")});
  EXPECT_EQ(against.code, kExitDone) << against.err;
  EXPECT_THAT(against.out, HasSubstr("; configuration and tree of " + plain("v1")));
}

TEST_F(CheckTest, ProvesEveryImageOfAnIndex) {
  const auto amd = add_plain("amd", {sample_tar()});
  const auto arm = add_plain(
      "arm", {TarBuilder().add(header(Type::kRegular, "arm"), text("arm")).finish()}, "arm64");
  add_index("v1", {{"amd64", amd}, {"arm64", arm}});
  convert("v1");
  const Ran ran = run_imsy({"check", converted("v1"), "--against", plain("v1")});
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("linux/amd64 proved"), HasSubstr("linux/arm64 proved")));
  const Ran one = run_imsy({"check", converted("v1"), "--platform", "linux/arm64"});
  EXPECT_THAT(one.out, AllOf(Not(HasSubstr("amd64")), HasSubstr("linux/arm64 proved")));
  EXPECT_THAT(refusal({"check", converted("v1"), "--platform", "linux/s390x"}),
              HasSubstr("no image for linux/s390x"));
}

// An index of an image and of a statement about it, converted.
class CarriedTest : public CheckTest {
 protected:
  void SetUp() override {
    const auto image = add_plain("amd", {sample_tar()});
    oci::Manifest manifest;
    manifest.media_type = oci::media_type::kOciManifest;
    manifest.config = put(oci::media_type::kOciConfig, text(R"({"os": "unknown"})"));
    manifest.layers = {put("application/vnd.in-toto+json", text("{}"))};
    statement_ = oci::Document::make(manifest.media_type, manifest.to_json());
    ASSERT_TRUE(plain_->put_manifest(statement_, ""));
    layer_ = manifest.layers[0];
    oci::Index index;
    index.media_type = oci::media_type::kOciIndex;
    index.manifests = {image.describe(), statement_.describe()};
    index.manifests[1].platform = oci::Platform{"unknown", "unknown", "", ""};
    index.manifests[1].annotations = {{"vnd.docker.reference.type", "attestation-manifest"},
                                      {"vnd.docker.reference.digest", image.digest.to_string()}};
    ASSERT_TRUE(plain_->put_manifest(oci::Document::make(index.media_type, index.to_json()), "v1"));
    convert("v1");
  }

  oci::Document statement_;
  oci::Descriptor layer_;
};

TEST_F(CarriedTest, WhatWasCarriedThroughIsProvedToo) {
  const Ran ran = run_imsy({"check", converted("v1")});
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("linux/amd64 proved"),
                             HasSubstr(statement_.digest.to_string() + " is whole")));
}

TEST_F(CarriedTest, AStatementThatIsMissingOrDamagedIsNamed) {
  const std::string entry = "entry " + statement_.digest.to_string() + " of the index";
  const Bytes content = blob(layer_);
  ASSERT_TRUE(replace_file(blob_file(layer_), text("[]")));
  EXPECT_THAT(check(), AllOf(HasSubstr(entry), HasSubstr(layer_.digest.to_string())));
  std::filesystem::remove(blob_file(layer_));
  EXPECT_THAT(check(), AllOf(HasSubstr(entry), HasSubstr(layer_.digest.to_string())));
  ASSERT_TRUE(replace_file(blob_file(layer_), content));
  std::filesystem::remove(blob_file(statement_.describe()));
  EXPECT_THAT(check(), AllOf(HasSubstr(converted("v1")), HasSubstr(entry)));
  const Ran chosen = run_imsy({"check", converted("v1"), "--platform", "linux/amd64"});
  EXPECT_EQ(chosen.code, kExitDone) << "only the image was asked for";
}

TEST_F(CarriedTest, ExportSaysThatItLeavesItOut) {
  const Ran ran = run_imsy({"export", converted("v1"), "oci:" + at("exported")});
  EXPECT_EQ(ran.code, kExitDone);
  EXPECT_THAT(ran.err, AllOf(HasSubstr("left out"), HasSubstr(statement_.digest.to_string())));
  add_both("v2", {sample_tar()});
  EXPECT_EQ(run_imsy({"export", converted("v2"), "oci:" + at("exported")}).err, "");
}

TEST_F(CheckTest, AnOrdinaryImageIsToBeConvertedFirst) {
  add_plain("v1", {sample_tar()});
  EXPECT_THAT(refusal({"check", plain("v1")}), HasSubstr("convert it with imsy-convert first"));
}

TEST_F(CheckTest, WrongArgumentsAreErrorsOfUsage) {
  EXPECT_EQ(run_imsy({"check"}).code, kExitUsage);
  EXPECT_EQ(run_imsy({"check", "a", "b"}).code, kExitUsage);
  EXPECT_EQ(run_imsy({"check", "a", "--nonsense"}).code, kExitUsage);
}

TEST_F(CheckTest, AStopRequestEndsIt) {
  add_both("v1", {sample_tar()});
  std::stop_source stop;
  stop.request_stop();
  const Ran ran = run_imsy({"check", converted("v1")}, "", stop.get_token());
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.err, HasSubstr("interrupted"));
}

// --- documents that do not agree

class DocumentsTest : public CheckTest {
 protected:
  // check() of the image with a changed manifest.
  std::string with_manifest(const std::function<void(oci::Manifest&)>& change) {
    add_both("v1", {sample_tar()});
    oci::Manifest manifest = manifest_of("v1");
    change(manifest);
    const auto document = oci::Document::make(manifest.media_type, manifest.to_json());
    EXPECT_TRUE(converted_->put_manifest(document, "v1"));
    return check();
  }
  // The same with a changed configuration, whose digest is put wherever it belongs.
  std::string with_config(const std::function<void(oci::Json&)>& change) {
    return with_manifest([&](oci::Manifest& manifest) {
      auto config = oci::Json::parse(as_text(blob(manifest.config)));
      change(config);
      const std::string changed = config.dump();
      manifest.config.digest = sha256(changed);
      manifest.config.size = changed.size();
      EXPECT_TRUE(converted_->put_blob(as_bytes(changed), manifest.config.digest));
      for (auto& layer : manifest.layers) {
        layer.annotations[std::string(converter::annotation::kConfig)] =
            manifest.config.digest.to_string();
      }
    });
  }
};

TEST_F(DocumentsTest, AFlippedByteOfAnAnchor) {
  const std::string key(converter::annotation::kAnchor);
  EXPECT_THAT(with_manifest([&](auto& manifest) {
                char& digit = manifest.layers[0].annotations[key][30];
                digit = digit == '0' ? '1' : '0';
              }),
              HasSubstr("layer \"anchor\" has another type, digest or size than the anchor says"));
  EXPECT_THAT(with_manifest([&](auto& manifest) {
                char& digit = manifest.layers[1].annotations[key][30];
                digit = digit == '0' ? '1' : '0';
              }),
              AllOf(HasSubstr("annotation " + key), HasSubstr("layer \"data\"")));
  EXPECT_THAT(with_manifest([&](auto& manifest) { manifest.layers[0].annotations[key][0] = 'I'; }),
              HasSubstr("annotation " + key));
}

TEST_F(DocumentsTest, AnchorsThatAgreeWithEachOtherButNotWithTheLayers) {
  EXPECT_THAT(with_manifest([](auto& manifest) {
                auto anchor = cdc::Anchor::parse(manifest.layers[0].annotations.at(
                                                     std::string(converter::annotation::kAnchor)))
                                  .value();
                anchor.manifest = sha256("another");
                for (auto& layer : manifest.layers) {
                  layer.annotations[std::string(converter::annotation::kAnchor)] = anchor.to_text();
                }
              }),
              HasSubstr("layer \"anchor\" has another type, digest or size"));
}

TEST_F(DocumentsTest, RolesAndConfigurations) {
  EXPECT_THAT(with_manifest([](auto& manifest) {
                manifest.layers[1].annotations[std::string(converter::annotation::kRole)] = "main";
              }),
              HasSubstr("imsy.role"));
  EXPECT_THAT(with_manifest([](auto& manifest) {
                manifest.layers[1].annotations.erase(std::string(converter::annotation::kConfig));
              }),
              HasSubstr("imsy.config"));
  EXPECT_THAT(with_manifest([](auto& manifest) {
                manifest.layers[1].media_type = oci::media_type::kOciLayerGzip;
              }),
              HasSubstr("layer \"data\""));
}

TEST_F(DocumentsTest, DiffIdsThatTheAnchorDoesNotGive) {
  for (const int i : {0, 1}) {
    EXPECT_THAT(with_config([&](oci::Json& config) {
                  config["rootfs"]["diff_ids"][i] = sha256("another").to_string();
                }),
                HasSubstr("diffID " + std::to_string(i)));
  }
}

// --- blobs that are not what they should be

class BlobsTest : public CheckTest {
 protected:
  void SetUp() override {
    add_both("v1", {sample_tar()});
    data_ = manifest_of("v1").layers[1];
    bytes_ = blob(data_);
  }
  std::string with_flipped(std::uint64_t position) {
    Bytes changed = bytes_;
    changed[position] ^= std::byte{1};
    EXPECT_TRUE(replace_file(blob_file(data_), changed));
    return check();
  }

  oci::Descriptor data_;
  Bytes bytes_;
};

TEST_F(BlobsTest, AFlippedByteOfAFrame) {
  const auto manifest = cdc_manifest_of("v1");
  const auto& objects = manifest->objects();
  ASSERT_GT(objects.frame_count(), 3u);
  for (std::uint32_t i = 0; i < objects.frame_count(); ++i) {
    const cdc::Frame& frame = objects.frame(i);
    EXPECT_THAT(with_flipped(frame.stored_offset), HasSubstr("frame " + std::to_string(i)));
    EXPECT_THAT(with_flipped(frame.stored_offset + frame.stored_size / 2), HasSubstr("data layer"));
  }
}

TEST_F(BlobsTest, AFlippedByteOfTheCdcManifest) {
  const auto anchor = anchor_of("v1");
  const auto manifest = cdc_manifest_of("v1");
  EXPECT_THAT(with_flipped(anchor.manifest_offset), HasSubstr("CDC manifest"));
  for (const auto& section : manifest->header().sections) {
    EXPECT_THAT(with_flipped(anchor.manifest_offset + section.offset + section.stored_size / 2),
                HasSubstr("CDC manifest"));
  }
  EXPECT_THAT(with_flipped(anchor.manifest_offset - cdc::kSkippableHeaderSize),
              HasSubstr("behind the frames"));
}

TEST_F(BlobsTest, BlobsThatAreMissing) {
  for (const auto& layer : manifest_of("v1").layers) {
    const Bytes kept = blob(layer);
    std::filesystem::remove(blob_file(layer));
    EXPECT_THAT(check(), HasSubstr(layer.digest.to_string()));
    EXPECT_TRUE(replace_file(blob_file(layer), kept));
  }
  EXPECT_EQ(run_imsy({"check", converted("v1")}).code, kExitDone);
}

TEST_F(BlobsTest, BytesBehindTheCdcManifest) {
  auto anchor = anchor_of("v1");
  append(bytes_, cdc::FrameEncoder(3).encode(text("more")));
  anchor.data_layers[0].blob = sha256(bytes_);
  anchor.data_layers[0].size = bytes_.size();
  publish(anchor, bytes_, "v1");
  EXPECT_THAT(check(), HasSubstr("something lies behind the CDC manifest"));
}

TEST_F(BlobsTest, SeveralDataLayersAreRefused) {
  auto anchor = anchor_of("v1");
  anchor.data_layers.push_back(anchor.data_layers[0]);
  publish(anchor, bytes_, "v1");
  EXPECT_THAT(check(), HasSubstr("has 2 data layers; only images with one can be proved"));
}

TEST_F(BlobsTest, AnotherDiffId) {
  auto anchor = anchor_of("v1");
  anchor.data_layers[0].diff_id = sha256("another");
  publish(anchor, bytes_, "v1");
  EXPECT_THAT(check(), HasSubstr("its tar has diffID"));
}

// --- a CDC manifest and a tar that do not describe the same tree, every digest being right

class ForgedTest : public CheckTest {};

TEST_F(ForgedTest, AHeaderOfTheTarDiffers) {
  add_both("v1", {sample_tar()});
  auto secret = header(Type::kDirectory, "bin/");
  secret.mode = 0777;
  add_both("v2", {sample_tar(), TarBuilder().add(secret).finish()});
  // The frames of the second with the tree of the first.
  const auto shown = cdc_manifest_of("v1");
  auto parts = parts_of(*cdc_manifest_of("v2"));
  parts.tree = &shown->tree();
  forge("v2", parts, "v1");
  EXPECT_THAT(check(), AllOf(HasSubstr("bin/: "), HasSubstr("the tar's header is not the one")));
}

TEST_F(ForgedTest, AContentIsSaidToLieElsewhere) {
  add_both("v1", {sample_tar()});
  const auto manifest = cdc_manifest_of("v1");
  auto parts = parts_of(*manifest);
  const cdc::Tree& tree = manifest->tree();
  const auto object_of = [&](std::string_view name) {
    return tree.inode(tree.find(tree.inode(0), name)->inode).value;
  };
  parts.objects[object_of("one")].raw_offset += 100;
  forge("v1", parts, "v1");
  EXPECT_THAT(check(), AllOf(HasSubstr("one: "), HasSubstr("has its content at")));
  parts.objects[object_of("one")].raw_offset -= 100;
  // The order of the tar is that of the objects' places, so this is another tar.
  std::swap(parts.objects[object_of("one")].raw_offset, parts.objects[object_of("two")].raw_offset);
  forge("v1", parts, "v1");
  EXPECT_THAT(check(), HasSubstr(": the tar's header is not the one"));
}

TEST_F(ForgedTest, ChunksChangePlaces) {
  add_both("v1", {sample_tar()});
  const auto manifest = cdc_manifest_of("v1");
  const cdc::Tree& tree = manifest->tree();
  const auto object_of = [&](std::string_view name) {
    return tree.inode(tree.find(tree.inode(0), name)->inode).value;
  };
  auto parts = parts_of(*manifest);
  std::swap(parts.objects[object_of("one")].digests, parts.objects[object_of("two")].digests);
  forge("v1", parts, "v1");
  EXPECT_THAT(check(), AllOf(HasSubstr("one: "), HasSubstr("other bytes")));

  parts = parts_of(*manifest);
  auto& large = parts.objects[object_of("copy")];
  ASSERT_GT(large.digests.size(), 2u);
  large.digests[1] = sha256("another");
  forge("v1", parts, "v1");
  EXPECT_THAT(check(), AllOf(HasSubstr("bin/same: "), HasSubstr("other bytes")));
}

// --- trees that differ from the original's

struct Variation {
  const char* name;
  std::function<void(std::vector<std::pair<Header, Bytes>>&)> change;
  const char* line;  // what is said about it
};

std::vector<std::pair<Header, Bytes>> sample_entries() {
  auto device = header(Type::kCharDevice, "dev");
  device.device_major = 1;
  device.device_minor = 3;
  auto noted = header(Type::kRegular, "noted");
  noted.xattrs["user.note"] = "one";
  return {{header(Type::kDirectory, "dir/"), {}},
          {header(Type::kRegular, "dir/file"), text("content")},
          {header(Type::kHardLink, "dir/same", "dir/file"), {}},
          {header(Type::kRegular, "other"), text("content")},
          {header(Type::kSymlink, "link", "dir/file"), {}},
          {device, {}},
          {noted, text("noted")}};
}

Bytes tar_of(const std::vector<std::pair<Header, Bytes>>& entries) {
  TarBuilder tar;
  for (const auto& [entry, content] : entries) tar.add(entry, content);
  return tar.finish();
}

const Variation kVariations[] = {
    {"mode", [](auto& all) { all[0].first.mode = 0700; }, "dir: mode: 0755 and 0700"},
    {"owner", [](auto& all) { all[3].first.uid = 7; }, "other: owner: 0:0 and 7:0"},
    {"group", [](auto& all) { all[3].first.gid = 7; }, "other: owner: 0:0 and 0:7"},
    {"mtime", [](auto& all) { all[3].first.mtime_ns = 5; },
     "other: mtime: 1700000000.000000000 and 1700000000.000000005"},
    {"content", [](auto& all) { all[3].second = text("Content"); }, "other: content: "},
    {"target", [](auto& all) { all[4].first.link = "dir/same"; },
     "link: target: dir/file and dir/same"},
    {"device", [](auto& all) { all[5].first.device_minor = 5; }, "dev: device: 1:3 and 1:5"},
    {"xattr", [](auto& all) { all[6].first.xattrs["user.note"] = "two"; },
     "noted: extended attributes: user.note"},
    {"xattr more", [](auto& all) { all[6].first.xattrs["user.more"] = ""; },
     "noted: extended attributes: user.more"},
    {"type",
     [](auto& all) {
       all[3] = {header(Type::kFifo, "other"), {}};
     },
     "other: type: regular file and fifo"},
    {"missing", [](auto& all) { all.erase(all.begin() + 3); }, "other: only in oci:"},
    {"more",
     [](auto& all) {
       all.push_back({header(Type::kFifo, "z"), {}});
     },
     "z: only in oci:"},
    {"link made a copy",
     [](auto& all) {
       all[2] = {header(Type::kRegular, "dir/same"), text("content")};
     },
     "dir/file: links: 2 and 1"},
    {"linked to another", [](auto& all) { all[2].first.link = "other", std::swap(all[2], all[3]); },
     "dir/file: links: 2 and 1"},
};

class AgainstTest : public CheckTest {};

TEST_F(AgainstTest, EveryAttributeCounts) {
  add_plain("original", {tar_of(sample_entries())});
  for (const Variation& variation : kVariations) {
    auto entries = sample_entries();
    variation.change(entries);
    add_both("v1", {tar_of(entries)});
    const Ran ran = run_imsy({"check", converted("v1"), "--against", plain("original")});
    EXPECT_EQ(ran.code, kExitFailed) << variation.name;
    EXPECT_THAT(ran.out, HasSubstr(variation.line)) << variation.name;
    EXPECT_THAT(ran.err, HasSubstr("differs from " + plain("original"))) << variation.name;
  }
}

TEST_F(AgainstTest, LinksThatAreOtherPairs) {
  const auto pairs = [](const char* of_c, const char* of_d) {
    return TarBuilder()
        .add(header(Type::kRegular, "a"), text("same"))
        .add(header(Type::kRegular, "b"), text("same"))
        .add(header(Type::kHardLink, "c", of_c))
        .add(header(Type::kHardLink, "d", of_d))
        .finish();
  };
  add_plain("original", {pairs("a", "b")});
  add_both("v1", {pairs("b", "a")});
  const Ran ran = run_imsy({"check", converted("v1"), "--against", plain("original")});
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_THAT(ran.out, HasSubstr("c: links: to different files"));
}

TEST_F(AgainstTest, ListsTenDifferencesAndCountsAll) {
  add_plain("original", {TarBuilder().finish()});
  TarBuilder many;
  for (int i = 0; i < 25; ++i) many.add(header(Type::kFifo, "fifo" + std::to_string(i)));
  add_both("v1", {many.finish()});
  const Ran ran = run_imsy({"check", converted("v1"), "--against", plain("original")});
  EXPECT_EQ(ran.code, kExitFailed);
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 10);
  EXPECT_THAT(ran.err, HasSubstr("in 25 paths"));
}

TEST_F(AgainstTest, WhatARuntimeReadsOfTheConfigurationCounts) {
  const struct {
    const char* original;
    const char* line;  // of the first difference, "": none
  } variations[] = {
      {R"({"config": {"Cmd": ["/bin/other"]}})", "configuration: /config/Cmd/0 is not the same"},
      {R"({"config": {"Cmd": ["/bin/tool"], "Env": ["A=1"]}})", "/config/Env"},
      {R"({"config": {"Cmd": ["/bin/tool"], "Entrypoint": ["/init"]}})", "/config/Entrypoint"},
      {R"({"config": {"Cmd": ["/bin/tool"], "User": "nobody"}})", "/config/User"},
      {R"({"config": {"Cmd": ["/bin/tool"], "WorkingDir": "/srv"}})", "/config/WorkingDir"},
      {R"({"config": {"Cmd": ["/bin/tool"], "Labels": {"a/b": "c"}}})", "/config/Labels"},
      {R"({"config": {"Cmd": ["/bin/tool"], "ExposedPorts": {"80/tcp": {}}}})", "ExposedPorts"},
      {R"({"config": {}})", "/config/Cmd"},
      {R"({"os.version": "1"})", "/os.version"},
      {R"({"created": "2020-01-01T00:00:00Z", "history": [{"created_by": "a"}]})", ""},
  };
  add_both("v1", {sample_tar()});
  for (const auto& variation : variations) {
    add_plain("original", {sample_tar()}, "amd64", oci::Json::parse(variation.original));
    const Ran ran = run_imsy({"check", converted("v1"), "--against", plain("original")});
    EXPECT_THAT(ran.out, HasSubstr(variation.line));
    const bool same = std::string_view(variation.line).empty();
    EXPECT_EQ(ran.code, same ? kExitDone : kExitFailed) << variation.original;
    if (same) continue;
    EXPECT_THAT(ran.err, HasSubstr("in 0 paths and 1 members of the configuration"));
  }
}

TEST_F(AgainstTest, ImagesThatOnlyTheOriginalHasAreMissed) {
  const auto amd = add_plain("amd", {sample_tar()});
  const auto arm = add_plain("arm", {sample_tar()}, "arm64");
  add_index("both", {{"amd64", amd}, {"arm64", arm}});
  convert("amd");
  EXPECT_THAT(
      refusal({"check", converted("amd"), "--against", plain("both")}),
      AllOf(HasSubstr("has images of which none was made: linux/arm64 (" + arm.digest.to_string()),
            HasSubstr(converted("amd")), HasSubstr("--platform")));
  const Ran ran = run_imsy(
      {"check", converted("amd"), "--against", plain("both"), "--platform", "linux/amd64"});
  EXPECT_EQ(ran.code, kExitDone) << ran.err;
}

// Which one an image was made from is known by digest, whatever the index says of platforms.
TEST_F(AgainstTest, ImagesArePairedByWhatTheyWereMadeFrom) {
  const auto one = add_plain("one", {sample_tar()});
  const auto two =
      add_plain("two", {TarBuilder().add(header(Type::kRegular, "two"), text("2")).finish()});
  for (const char* platform :
       {R"({"os": "linux", "architecture": "amd64"})", R"({"os": "", "architecture": ""})", "{}"}) {
    oci::Index index;
    index.media_type = oci::media_type::kOciIndex;
    index.manifests = {one.describe(), two.describe()};
    oci::Json json = index.to_json();
    for (auto& entry : json["manifests"]) entry["platform"] = oci::Json::parse(platform);
    ASSERT_TRUE(plain_->put_manifest(oci::Document::make(index.media_type, json), "v1"));
    convert("v1");
    const Ran ran = run_imsy({"check", converted("v1"), "--against", plain("v1")});
    EXPECT_EQ(ran.code, kExitDone) << ran.err << ran.out;
    EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), 2) << ran.out;
    const Ran chosen =
        run_imsy({"check", converted("v1"), "--against", plain("v1"), "--platform", "linux/amd64"});
    EXPECT_EQ(chosen.code, kExitDone) << chosen.err;
  }
  // One of the two is missed, and of a third that is in neither nobody can say which it was.
  convert("one");
  EXPECT_THAT(refusal({"check", converted("one"), "--against", plain("v1")}),
              HasSubstr("none was made: linux/amd64 (" + two.digest.to_string()));
  add_both("three", {TarBuilder().finish()});
  EXPECT_THAT(refusal({"check", converted("three"), "--against", plain("v1")}),
              AllOf(HasSubstr("several images for linux/amd64"), HasSubstr("by its digest")));
}

TEST_F(AgainstTest, ForeignLayersOfTheOriginalAreFetchedWhenAllowed) {
  test::FakeRegistry elsewhere;
  const Bytes tar = sample_tar();
  elsewhere.fault("GET", "/layer", test::FakeRegistry::kAlways,
                  [&](const test::FakeRequest&, test::FakeResponse& response) {
                    response = test::FakeResponse();
                    response.body = std::string(as_text(tar));
                  });
  add_both("v1", {tar});
  std::filesystem::remove(temp_ / "plain/blobs/sha256" / sha256(tar).hex());
  add_foreign("original", tar, elsewhere.endpoint() + "/layer");
  std::vector<std::string> args = {"check", converted("v1"), "--against", plain("original"),
                                   "--plain-http"};
  EXPECT_THAT(refusal(args), HasSubstr("--allow-foreign-layers"));
  EXPECT_EQ(elsewhere.count("GET", "/layer"), 0u);
  args.push_back("--allow-foreign-layers");
  const Ran ran = run_imsy(args);
  EXPECT_EQ(ran.code, kExitDone) << ran.err << ran.out;
  EXPECT_EQ(elsewhere.count("GET", "/layer"), 1u);
}

TEST_F(AgainstTest, AnOriginalThatCannotBeReadIsNamed) {
  add_both("v1", {sample_tar()});
  EXPECT_THAT(refusal({"check", converted("v1"), "--against", plain("nothing")}),
              HasSubstr(plain("nothing")));
}

}  // namespace
}  // namespace imsy::cli
