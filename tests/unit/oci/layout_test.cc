#include "oci/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "common/io.h"
#include "tests/unit/oci/support.h"

namespace imsy::oci {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

Document document_of(const Manifest& manifest) {
  Document document;
  document.media_type = manifest.media_type;
  document.bytes = manifest.to_json().dump();
  document.digest = sha256(document.bytes);
  return document;
}

Document manifest_about(const std::string& name, const std::optional<Digest>& subject = {}) {
  Manifest manifest;
  manifest.media_type = media_type::kOciManifest;
  manifest.config = descriptor_of("{}");
  manifest.annotations = {{"name", name}};
  if (subject) {
    manifest.artifact_type = "application/vnd.example";
    manifest.subject = descriptor_of("");
    manifest.subject->digest = *subject;
  }
  return document_of(manifest);
}

class LayoutTest : public ::testing::Test {
 protected:
  LayoutTest() : path_(dir_.path() / "layout") {
    auto layout = Layout::open_or_create(path_);
    EXPECT_TRUE(layout) << layout.error().message();
    layout_ = std::move(*layout);
  }
  std::filesystem::path blob_path(const Digest& digest) const {
    return path_ / "blobs" / "sha256" / digest.hex();
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_)) {
      if (!entry.is_directory()) names.push_back(entry.path().filename());
    }
    return names;
  }
  Result<std::string> fetch(const Descriptor& descriptor) {
    IMSY_TRY_ASSIGN(const auto reader, layout_->open_blob(descriptor));
    return read_all(*reader);
  }
  std::string index_text() const {
    return std::string(as_text(*read_file(path_ / "index.json", kDocumentLimit)));
  }

  TempDir dir_;
  const std::filesystem::path path_;
  std::unique_ptr<Layout> layout_;
};

TEST_F(LayoutTest, IsMadeAsTheSpecificationSays) {
  EXPECT_THAT(files(), UnorderedElementsAre("oci-layout", "index.json"));
  EXPECT_EQ(as_text(*read_file(path_ / "oci-layout", 100)), "{\"imageLayoutVersion\":\"1.0.0\"}");
  EXPECT_EQ(layout_->name(), "oci:" + path_.string());
  EXPECT_TRUE(layout_->entries()->empty());
}

TEST_F(LayoutTest, IsOpenedOnlyWhereOneIs) {
  EXPECT_TRUE(Layout::open(path_));
  EXPECT_TRUE(Layout::open_or_create(path_));
  EXPECT_EQ(Layout::open(dir_.path() / "absent").error().code(), Errc::kNotFound);
  const auto other = dir_.path() / "other";
  std::filesystem::create_directory(other);
  EXPECT_EQ(Layout::open(other).error().code(), Errc::kNotFound);
  dir_.write("other/file", "mine");
  EXPECT_EQ(Layout::open_or_create(other).error().code(), Errc::kInvalid);
  EXPECT_FALSE(std::filesystem::exists(other / "blobs"));
  for (const char* marker : {"{}", "{\"imageLayoutVersion\":\"2.0.0\"}", "[]", ""}) {
    std::ofstream(path_ / "oci-layout") << marker;
    EXPECT_EQ(Layout::open(path_).error().code(), Errc::kInvalid) << marker;
  }
}

TEST_F(LayoutTest, CreationGoesOnAfterAnInterruption) {
  std::filesystem::remove(path_ / "oci-layout");
  EXPECT_TRUE(Layout::open_or_create(path_));
  std::filesystem::remove(path_ / "oci-layout");
  std::filesystem::remove(path_ / "index.json");
  EXPECT_TRUE(Layout::open_or_create(path_));
}

TEST_F(LayoutTest, KeepsBlobs) {
  const std::string content = noise(300'000);
  auto writer = layout_->create_blob();
  ASSERT_TRUE(writer);
  ASSERT_TRUE((*writer)->write(as_bytes(content).first(100'000)));
  ASSERT_TRUE((*writer)->write(as_bytes(content).subspan(100'000)));
  EXPECT_FALSE(*layout_->has_blob(sha256(content), content.size()));
  ASSERT_TRUE((*writer)->commit(sha256(content)));
  EXPECT_TRUE(*layout_->has_blob(sha256(content), content.size()));
  EXPECT_FALSE(*layout_->has_blob(sha256(content), content.size() + 1));
  EXPECT_TRUE(*fetch(descriptor_of(content)) == content);
  ASSERT_TRUE(layout_->put_blob(as_bytes("small"), sha256("small")));
  EXPECT_EQ(*layout_->get_blob(descriptor_of("small"), 10), "small");
  struct stat st {};
  ASSERT_EQ(::stat(blob_path(sha256("small")).c_str(), &st), 0);
  EXPECT_EQ(
      st.st_mode & 0777, 0644u & ~[] {
        const mode_t mask = ::umask(0);
        ::umask(mask);
        return mask;
      }());
}

TEST_F(LayoutTest, ReadsPartsOfBlobs) {
  const Descriptor blob = descriptor_of("0123456789");
  ASSERT_TRUE(layout_->put_blob(as_bytes("0123456789"), blob.digest));
  const auto part = [&](std::uint64_t offset, std::uint64_t length) -> Result<std::string> {
    IMSY_TRY_ASSIGN(const Bytes bytes, layout_->read_part(blob, offset, length));
    return std::string(as_text(bytes));
  };
  EXPECT_EQ(*part(0, 10), "0123456789");
  EXPECT_EQ(*part(3, 4), "3456");
  EXPECT_EQ(*part(10, 0), "");
  for (const auto& [offset, length] :
       {std::pair<std::uint64_t, std::uint64_t>(9, 2), {11, 0}, {1, UINT64_MAX}, {UINT64_MAX, 1}}) {
    const auto outside = part(offset, length);
    ASSERT_FALSE(outside);
    EXPECT_EQ(outside.error().code(), Errc::kInvalid);
  }
  ASSERT_TRUE(replace_file(blob_path(blob.digest), as_bytes("0123")));
  EXPECT_EQ(part(0, 4).error().code(), Errc::kCorrupt);
  EXPECT_EQ(layout_->read_part(descriptor_of("missing"), 0, 1).error().code(), Errc::kNotFound);
}

TEST_F(LayoutTest, UncommittedOrMisnamedBlobsLeaveNothing) {
  const auto before = files();
  {
    auto writer = layout_->create_blob();
    ASSERT_TRUE(writer);
    ASSERT_TRUE((*writer)->write(as_bytes("content")));
  }
  {
    auto writer = layout_->create_blob();
    ASSERT_TRUE(writer);
    ASSERT_TRUE((*writer)->write(as_bytes("content")));
    EXPECT_EQ((*writer)->commit(sha256("other")).error().code(), Errc::kCorrupt);
  }
  EXPECT_EQ(layout_->put_blob(as_bytes("a"), sha256("b")).error().code(), Errc::kCorrupt);
  EXPECT_EQ(files(), before);
}

TEST_F(LayoutTest, DamageIsFoundAndRepaired) {
  const std::string content = noise(10'000);
  const Digest digest = sha256(content);
  ASSERT_TRUE(layout_->put_blob(as_bytes(content), digest));
  std::string damaged = content;
  damaged[5000] = static_cast<char>(damaged[5000] ^ 1);
  std::ofstream(blob_path(digest)) << damaged;
  EXPECT_EQ(fetch(descriptor_of(content)).error().code(), Errc::kCorrupt);
  ASSERT_TRUE(layout_->put_blob(as_bytes(content), digest));
  EXPECT_TRUE(*fetch(descriptor_of(content)) == content);
  std::ofstream(blob_path(digest)) << content.substr(1);
  EXPECT_EQ(fetch(descriptor_of(content)).error().code(), Errc::kCorrupt);
  EXPECT_EQ(fetch(descriptor_of("absent")).error().code(), Errc::kNotFound);
}

TEST_F(LayoutTest, WaitsForNoFifo) {
  const Descriptor descriptor = descriptor_of("content");
  ASSERT_EQ(::mkfifo(blob_path(descriptor.digest).c_str(), 0600), 0);
  EXPECT_EQ(layout_->open_blob(descriptor).error().code(), Errc::kInvalid);
  EXPECT_FALSE(*layout_->has_blob(descriptor.digest, 0));
  EXPECT_EQ(layout_->get_manifest(descriptor.digest.to_string()).error().code(), Errc::kInvalid);
}

TEST_F(LayoutTest, NamesManifestsByTag) {
  const Document first = manifest_about("first");
  const Document second = manifest_about("second");
  ASSERT_TRUE(layout_->put_manifest(first, "v1"));
  EXPECT_EQ(layout_->get_manifest("v1")->digest, first.digest);
  EXPECT_EQ(layout_->get_manifest("v1")->media_type, media_type::kOciManifest);
  EXPECT_EQ(layout_->get_manifest("")->digest, first.digest);  // the only one
  EXPECT_EQ(layout_->get_manifest(first.digest.to_string())->bytes, first.bytes);
  ASSERT_TRUE(layout_->put_manifest(second, "v2"));
  EXPECT_EQ(layout_->find("").error().code(), Errc::kInvalid);
  ASSERT_TRUE(layout_->put_manifest(second, "v1"));  // moves the tag
  EXPECT_EQ(layout_->find("v1")->digest, second.digest);
  EXPECT_EQ(layout_->entries()->size(), 2u);
  EXPECT_EQ(layout_->get_manifest("v3").error().code(), Errc::kNotFound);
  EXPECT_EQ(layout_->get_manifest(sha256("x").to_string()).error().code(), Errc::kNotFound);
  EXPECT_FALSE(layout_->put_manifest(first, "a\xff"));
}

TEST_F(LayoutTest, ManifestsWithoutATagAreThereAndNotListed) {
  const Document document = manifest_about("x");
  ASSERT_TRUE(layout_->put_manifest(document, ""));
  EXPECT_TRUE(layout_->entries()->empty());
  EXPECT_TRUE(layout_->get_manifest(document.digest.to_string()));
}

TEST_F(LayoutTest, KeepsWhatOthersWroteIntoTheIndex) {
  const Json theirs = {
      {"mediaType", media_type::kOciManifest},
      {"digest", sha256("theirs").to_string()},
      {"size", 6},
      {"platform", {{"os", "linux"}, {"architecture", "x"}, {"os.features", {"y"}}}},
      {"x-unknown", true}};
  const Json index = {{"schemaVersion", 2}, {"manifests", {theirs}}, {"x-more", 1}};
  std::ofstream(path_ / "index.json") << index.dump();
  ASSERT_TRUE(layout_->put_manifest(manifest_about("ours"), "v1"));
  const Json after = Json::parse(index_text());
  EXPECT_EQ(after["manifests"][0], theirs);
  EXPECT_EQ(after["manifests"].size(), 2u);
  EXPECT_EQ(after["x-more"], 1);
  EXPECT_FALSE(after.contains("mediaType"));
}

TEST_F(LayoutTest, DamagedIndexIsAnErrorAndStays) {
  std::ofstream(path_ / "index.json") << "{\"schemaVersion\":2,\"manifests\":5}";
  EXPECT_EQ(layout_->entries().error().code(), Errc::kInvalid);
  EXPECT_FALSE(layout_->put_manifest(manifest_about("x"), "v1"));
  EXPECT_EQ(index_text(), "{\"schemaVersion\":2,\"manifests\":5}");
}

TEST_F(LayoutTest, MediaTypeMayBeMissingInADocument) {
  const auto put = [&](Json json) {
    json.erase("mediaType");
    Document document;
    document.bytes = json.dump();
    document.digest = sha256(document.bytes);
    EXPECT_TRUE(layout_->put_blob(as_bytes(document.bytes), document.digest));
    auto read = layout_->get_manifest(document.digest.to_string());
    EXPECT_TRUE(read);
    return read ? read->media_type : std::string();
  };
  EXPECT_EQ(put(Json::parse(manifest_about("x").bytes)), media_type::kOciManifest);
  EXPECT_EQ(put({{"schemaVersion", 2}, {"manifests", Json::array()}}), media_type::kOciIndex);
  for (const char* text : {"text", "[]", "{\"mediaType\":\"text/html\"}"}) {
    ASSERT_TRUE(layout_->put_blob(as_bytes(text), sha256(text)));
    EXPECT_EQ(layout_->get_manifest(sha256(text).to_string()).error().code(), Errc::kInvalid);
  }
}

TEST_F(LayoutTest, WhatTheIndexSaysOfAManifestMustBeTrue) {
  const Document document = manifest_about("x");
  ASSERT_TRUE(layout_->put_manifest(document, "v1"));
  const auto good = Json::parse(std::ifstream(path_ / "index.json"));
  const auto with = [&](const char* key, const Json& value) {
    Json wrong = good;
    wrong["manifests"][0][key] = value;
    EXPECT_TRUE(replace_file(path_ / "index.json", as_bytes(wrong.dump())));
    const auto got = layout_->get_manifest("v1");
    EXPECT_FALSE(got);
    EXPECT_EQ(got.error().code(), Errc::kCorrupt);
    return got.error().message();
  };
  EXPECT_THAT(with("size", document.bytes.size() + 1),
              AllOf(HasSubstr(document.digest.to_string()), HasSubstr("says size")));
  EXPECT_THAT(with("mediaType", media_type::kDockerManifest),
              AllOf(HasSubstr(document.digest.to_string()), HasSubstr("media type")));
}

TEST_F(LayoutTest, ListsReferrers) {
  const Document image = manifest_about("image");
  ASSERT_TRUE(layout_->put_manifest(image, "v1"));
  const Document artifact = manifest_about("artifact", image.digest);
  ASSERT_TRUE(layout_->put_manifest(artifact, ""));
  Descriptor descriptor;
  descriptor.media_type = artifact.media_type;
  descriptor.digest = artifact.digest;
  descriptor.size = artifact.bytes.size();
  descriptor.artifact_type = "application/vnd.example";
  ASSERT_TRUE(layout_->add_referrer(image.digest, descriptor));
  ASSERT_TRUE(layout_->add_referrer(image.digest, descriptor));  // once is enough
  auto referrers = layout_->get_referrers(image.digest);
  ASSERT_TRUE(referrers) << referrers.error().message();
  ASSERT_EQ(referrers->size(), 1u);
  EXPECT_EQ((*referrers)[0].digest, artifact.digest);
  EXPECT_EQ((*referrers)[0].artifact_type, "application/vnd.example");
  EXPECT_EQ((*referrers)[0].annotations.at("name"), "artifact");
  EXPECT_TRUE(layout_->get_referrers(sha256("other"))->empty());
  // The image is still the only one that has to be named by nothing.
  EXPECT_EQ(layout_->find("")->digest, image.digest);
  EXPECT_FALSE(layout_->add_referrer(sha256("other"), descriptor));
}

TEST_F(LayoutTest, ChangesOfManyWritersAllLast) {
  constexpr int kWriters = 8;
  std::vector<std::thread> threads;
  for (int i = 0; i < kWriters; ++i) {
    threads.emplace_back([&, i] {
      auto layout = Layout::open_or_create(path_);
      ASSERT_TRUE(layout);
      for (int j = 0; j < 5; ++j) {
        const std::string tag = "t" + std::to_string(i) + "." + std::to_string(j);
        ASSERT_TRUE((*layout)->put_manifest(manifest_about(tag), tag));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(layout_->entries()->size(), 5u * kWriters);
}

TEST_F(LayoutTest, ManyMayCreateTheSame) {
  const auto path = dir_.path() / "new" / "layout";
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      auto layout = Layout::open_or_create(path);
      ASSERT_TRUE(layout) << layout.error().message();
      ASSERT_TRUE((*layout)->put_manifest(manifest_about("x"), "t" + std::to_string(i)));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ((*Layout::open(path))->entries()->size(), 8u);
}

}  // namespace
}  // namespace imsy::oci
