// The data layer, checked the way a node and an ordinary runtime will read it.
#include "converter/data_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "converter/tar_image.h"
#include "oci/decompress.h"
#include "tests/unit/converter/memory_streams.h"

namespace imsy::converter {
namespace {

using oci::tar::Header;
using oci::tar::Type;
using testing_support::header;
using testing_support::MemoryReader;
using testing_support::MemoryWriter;
using testing_support::noise;
using testing_support::text;

class DataLayerTest : public testing::Test {
 protected:
  void add(const Header& entry, const Bytes& content = {}) {
    MemoryReader reader(content);
    const auto number = spool_.add(reader, content.size());
    ASSERT_TRUE(number);
    entries_.emplace_back(entry, *number);
  }
  LayerTree tree() const {
    LayerTree tree;
    tree.begin_layer();
    for (const auto& [entry, content] : entries_) {
      EXPECT_TRUE(tree.apply(entry, [content = content] { return content; }));
    }
    tree.end_layer();
    return tree;
  }

  void add_varied_tree() {
    add(header(Type::kDirectory, "usr/bin/"));
    add(header(Type::kRegular, "usr/bin/tool"), noise(700'000, 1));
    add(header(Type::kHardLink, "usr/bin/alias", "usr/bin/tool"));
    add(header(Type::kRegular, "usr/copy"), noise(700'000, 1));
    add(header(Type::kRegular, "empty"));
    add(header(Type::kSymlink, "bin", "usr/bin"));
    add(header(Type::kFifo, "fifo"));
    Header device = header(Type::kBlockDevice, "disk");
    device.device_major = 259;
    device.device_minor = 70'000;
    add(device);
    for (int i = 0; i < 500; ++i) {
      add(header(Type::kRegular, "etc/conf-" + std::to_string(i)),
          text("setting " + std::to_string(i)));
    }
    Header special = header(Type::kRegular, "etc/" + std::string(200, 'n'));
    special.mode = 04711;
    special.uid = 3'000'000;
    special.mtime_ns = 123'456'789;
    special.xattrs["user.note"] = std::string("\0\1binary", 8);
    add(special, text("x"));
  }

  DataLayer write(unsigned jobs = 2, const cdc::Profile& profile = {}) {
    image_ = plan_image(tree(), spool_, profile).value();
    options_.jobs = jobs;
    options_.level = 3;
    Progress progress(false);
    output_.bytes.clear();
    return write_data_layer(image_, spool_, options_, output_, progress).value();
  }

  std::shared_ptr<const cdc::Manifest> manifest_of(const DataLayer& layer) {
    const auto bytes =
        ByteSpan(output_.bytes).subspan(layer.anchor.manifest_offset, layer.anchor.manifest_size);
    return cdc::Manifest::read(bytes, layer.anchor).value();
  }

  Bytes inflate() {
    MemoryReader blob(output_.bytes);
    const auto plain = oci::decompress(blob).value().content;
    Bytes tar;
    Bytes buffer(1 << 20);
    for (;;) {
      const std::size_t got = plain->read(buffer).value();
      if (got == 0) return tar;
      append(tar, ByteSpan(buffer).first(got));
    }
  }

  std::vector<std::string> names_in(const Bytes& tar) {
    MemoryReader reader(tar);
    oci::tar::Reader entries(reader);
    std::vector<std::string> names;
    Header entry;
    while (entries.next(entry).value()) names.push_back(entry.name);
    return names;
  }

  // The tar again, from the manifest and the objects' bytes.
  Bytes tar_of(const cdc::Manifest& manifest, const Bytes& original) {
    Bytes tar;
    const auto order = TarOrder::of(manifest);
    const auto visited = for_each_tar_entry(
        manifest.tree(), order, [&](const Header& entry, std::uint32_t object) -> Status {
          append(tar, as_bytes(oci::tar::encode_header(entry).value()));
          if (object == cdc::kNone) return {};
          append(tar,
                 ByteSpan(original).subspan(manifest.objects().raw_offset(object), entry.size));
          tar.resize(tar.size() + oci::tar::padding(entry.size));
          return {};
        });
    EXPECT_TRUE(visited);
    tar.resize(tar.size() + oci::tar::kEndSize);
    return tar;
  }

  std::vector<std::pair<Header, std::uint32_t>> entries_;  // with their contents
  ContentSpool spool_ =
      std::move(ContentSpool::create(std::filesystem::temp_directory_path(), {})).value();
  PlannedImage image_;
  DataLayerOptions options_;
  MemoryWriter output_;
};

TEST_F(DataLayerTest, AnchorNamesBlobSizeAndDiffId) {
  add_varied_tree();
  const auto layer = write();
  ASSERT_EQ(layer.anchor.data_layers.size(), 1u);
  EXPECT_EQ(layer.anchor.data_layers[0].blob, sha256(output_.bytes));
  EXPECT_EQ(layer.anchor.data_layers[0].size, output_.bytes.size());
  const Bytes tar = inflate();
  EXPECT_EQ(layer.anchor.data_layers[0].diff_id, sha256(tar));
  EXPECT_EQ(layer.raw_size, tar.size());
}

TEST_F(DataLayerTest, AnOrdinaryTarReaderSeesTheTree) {
  add_varied_tree();
  write();
  const Bytes tar = inflate();
  MemoryReader reader(tar);
  oci::tar::Reader entries(reader);
  std::map<std::string, Header> found;
  std::vector<std::string> order;
  Header entry;
  while (entries.next(entry).value()) {
    found[entry.name] = entry;
    order.push_back(entry.name);
  }
  EXPECT_EQ(order.front(), "./");
  EXPECT_EQ(found.size(), 512u);
  EXPECT_EQ(found["usr/bin/alias"].type, Type::kRegular);  // first in order: carries the content
  EXPECT_EQ(found["usr/bin/tool"].type, Type::kHardLink);
  EXPECT_EQ(found["usr/bin/tool"].link, "usr/bin/alias");
  EXPECT_EQ(found["usr/copy"].size, 700'000u);
  EXPECT_EQ(found["bin"].link, "usr/bin");
  EXPECT_EQ(found["disk"].device_major, 259u);
  EXPECT_EQ(found["disk"].device_minor, 70'000u);
  const Header& special = found["etc/" + std::string(200, 'n')];
  EXPECT_EQ(special.mode, 04711u);
  EXPECT_EQ(special.uid, 3'000'000u);
  EXPECT_EQ(special.mtime_ns, 123'456'789u);
  EXPECT_EQ(special.xattrs.at("user.note"), std::string("\0\1binary", 8));
}

TEST_F(DataLayerTest, EveryChunkLiesWholeInItsFrame) {
  add_varied_tree();
  const auto layer = write();
  const auto manifest = manifest_of(layer);
  const auto& objects = manifest->objects();
  cdc::FrameDecoder decoder;
  std::uint32_t checked = 0;
  for (std::uint32_t f = 0; f < objects.frame_count(); ++f) {
    const auto& frame = objects.frame(f);
    const auto stored = ByteSpan(output_.bytes).subspan(frame.stored_offset, frame.stored_size);
    const Bytes raw = decoder.decode(stored, frame.raw_size).value();
    for (const std::uint32_t c : objects.chunks_in_frame(f)) {
      const auto& chunk = objects.chunk(c);
      EXPECT_EQ(sha256(ByteSpan(raw).subspan(objects.offset_in_frame(c), chunk.size)),
                chunk.digest);
      ++checked;
    }
  }
  EXPECT_EQ(checked, objects.total_chunks());
  EXPECT_EQ(layer.frames, objects.frame_count());
}

TEST_F(DataLayerTest, EqualFilesAreOneObject) {
  add(header(Type::kRegular, "a"), noise(300'000, 1));
  add(header(Type::kRegular, "b"), noise(300'000, 1));
  const auto manifest = manifest_of(write());
  EXPECT_EQ(manifest->objects().count(), 1u);
  EXPECT_EQ(manifest->tree().inode_count(), 3u);
}

TEST_F(DataLayerTest, BytesDoNotDependOnTheNumberOfThreads) {
  add_varied_tree();
  write(1);
  const Bytes one = output_.bytes;
  DataLayerOptions options;
  options.level = 3;
  options.jobs = 8;
  Progress progress(false);
  MemoryWriter eight;
  ASSERT_TRUE(write_data_layer(image_, spool_, options, eight, progress));
  EXPECT_EQ(one, eight.bytes);
}

TEST_F(DataLayerTest, AnEmptyImageIsAnImage) {
  const auto layer = write();
  const auto manifest = manifest_of(layer);
  EXPECT_EQ(manifest->tree().inode_count(), 1u);
  EXPECT_EQ(manifest->objects().count(), 0u);
}

TEST_F(DataLayerTest, ManyEntriesWithoutContentFillFramesOfTheirOwn) {
  for (int i = 0; i < 9000; ++i) add(header(Type::kSymlink, "s" + std::to_string(i), "target"));
  add(header(Type::kRegular, "z"), noise(256 << 10, 1));
  const auto layer = write();
  EXPECT_GT(layer.frames, 3u);
  const auto manifest = manifest_of(layer);
  for (std::uint32_t f = 0; f < manifest->objects().frame_count(); ++f) {
    EXPECT_LE(manifest->objects().frame(f).raw_size, 2 * cdc::kSmallFilesFrame);
  }
}

cdc::Profile profile_of(const std::vector<std::string>& paths) {
  cdc::Profile profile;
  for (const auto& path : paths) EXPECT_TRUE(profile.add({path, 0, 0}));
  return profile;
}

TEST_F(DataLayerTest, AProfilePutsItsFilesInFrontAfterTheirDirectories) {
  add_varied_tree();
  const auto layer = write(2, profile_of({"usr/copy", "etc/conf-7", "usr/bin/tool", "etc/conf-3",
                                          "empty", "bin", "no/such/file", "usr", "etc/conf-7/x"}));
  // usr/copy has the content of usr/bin/alias, which comes first in the order of paths and so
  // carries it for both; usr/bin/tool is a link to it.
  const auto names = names_in(inflate());
  const std::vector<std::string> expected = {
      "./", "usr/", "usr/bin/", "usr/bin/alias", "etc/", "etc/conf-7", "etc/conf-3", "bin", "disk"};
  ASSERT_GE(names.size(), expected.size());
  EXPECT_EQ(std::vector(names.begin(), names.begin() + expected.size()), expected);
  EXPECT_EQ(names.size(), 512u);  // every entry once
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
  EXPECT_EQ(image_.order.front().size(), 3u);
  EXPECT_EQ(image_.unknown_accesses, 4u);  // a symlink, a directory and two that do not exist

  const auto manifest = manifest_of(layer);
  const auto& objects = manifest->objects();
  const auto front = image_.order.front();
  for (const std::uint32_t object : front) {
    for (const auto& chunk : objects.chunks_of(object)) {
      const auto& frame = objects.frame(chunk.frame);
      EXPECT_LE(frame.raw_size, 2 * cdc::kFrontFrame);
      for (const std::uint32_t neighbour : objects.chunks_in_frame(chunk.frame)) {
        EXPECT_NE(std::find(front.begin(), front.end(), objects.object_of_chunk(neighbour)),
                  front.end());
      }
    }
  }
}

TEST_F(DataLayerTest, AProfileInTheOrderOfPathsChangesNoOrder) {
  add_varied_tree();
  write(2, profile_of({"etc/conf-0", "etc/conf-1"}));
  EXPECT_TRUE(image_.order.front().empty());
}

TEST_F(DataLayerTest, TheManifestMakesTheTarAgain) {
  add_varied_tree();
  std::vector<std::string> paths = {"usr/copy", "usr/bin/tool", "empty"};
  for (int i = 0; i < 500; ++i) paths.push_back("etc/conf-" + std::to_string(i));
  std::mt19937 generator(1);
  for (std::size_t count = 0; count < paths.size(); count = count * 3 + 1) {
    std::shuffle(paths.begin(), paths.end(), generator);
    const auto layer = write(2, profile_of({paths.begin(), paths.begin() + count}));
    const Bytes tar = inflate();
    const auto manifest = manifest_of(layer);
    EXPECT_EQ(tar_of(*manifest, tar), tar) << count;
    EXPECT_EQ(TarOrder::of(*manifest).front(), image_.order.front()) << count;
  }
}

TEST_F(DataLayerTest, ReportsAWriterThatFails) {
  add_varied_tree();
  image_ = plan_image(tree(), spool_).value();
  struct Full : ByteWriter {
    Status write(ByteSpan) override { return Error(Errc::kNoSpace, "full"); }
  } full;
  Progress progress(false);
  const auto layer = write_data_layer(image_, spool_, {}, full, progress);
  ASSERT_FALSE(layer);
  EXPECT_EQ(layer.error().code(), Errc::kNoSpace);
}

}  // namespace
}  // namespace imsy::converter
