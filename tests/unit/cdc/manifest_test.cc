// Manifests that are right: what is written is read back, in the same bytes every time.
#include "cdc/manifest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <sstream>

#include "tests/unit/cdc/raw_manifest.h"
#include "tests/unit/cdc/sample.h"
#include "tests/unit/cdc/walk.h"

namespace imsy::test {
namespace {

using cdc::Inode;
using cdc::Manifest;
using cdc::NodeType;
using cdc::TreeBuilder;

// The tree as text, one line per entry: what a person would compare.
std::string dump(const cdc::Tree& tree) {
  std::ostringstream out;
  const auto line = [&](const std::string& path, std::uint32_t number) {
    const Inode& inode = tree.inode(number);
    out << "\"" << path << "\" inode " << number << " type " << static_cast<int>(inode.type)
        << " mode " << std::oct << inode.mode << std::dec << " owner " << inode.uid << ":"
        << inode.gid << " mtime " << inode.mtime_s << "." << inode.mtime_ns << " links "
        << inode.link_count << " size " << tree.size_of(inode);
    if (inode.type == NodeType::kRegular) out << " object " << inode.value;
    if (inode.type == NodeType::kSymlink) out << " -> " << tree.symlink_target(inode);
    if (inode.type == NodeType::kCharDevice || inode.type == NodeType::kBlockDevice) {
      out << " device " << inode.value << ":" << inode.count;
    }
    for (const cdc::Xattr& xattr : tree.xattrs(inode)) {
      out << " " << xattr.name << "=" << sha256(xattr.value).hex().substr(0, 8);
    }
    out << "\n";
  };
  line("", 0);
  for (std::uint32_t i = 0; i < tree.inode_count(); ++i) {
    if (tree.inode(i).type != NodeType::kDirectory) continue;
    for (const cdc::Entry& entry : tree.entries_of(tree.inode(i))) {
      line(tree.path_of(i) + "/" + std::string(tree.name(entry)), entry.inode);
    }
  }
  return out.str();
}

TEST(ManifestTest, ReadsWhatWasWritten) {
  const MadeImage image = make_sample();
  const cdc::Tree& tree = image.manifest->tree();
  const cdc::Objects& objects = image.manifest->objects();
  EXPECT_EQ(walk(*image.manifest), "");
  EXPECT_EQ(dump(tree),
            "\"\" inode 0 type 0 mode 755 owner 0:0 mtime 0.0 links 5 size 0\n"
            "\"/bin\" inode 1 type 0 mode 755 owner 0:0 mtime 1700000000.0 links 2 size 0\n"
            "\"/dev\" inode 2 type 0 mode 755 owner 0:0 mtime 0.0 links 2 size 0\n"
            "\"/empty\" inode 3 type 1 mode 644 owner 0:0 mtime 0.0 links 1 size 0 object 0\n"
            "\"/etc\" inode 4 type 0 mode 1777 owner 0:0 mtime 0.0 links 3 size 0\n"
            "\"/link\" inode 5 type 2 mode 777 owner 0:0 mtime 0.0 links 1 size 8 -> bin/tool\n"
            "\"bin/big\" inode 6 type 1 mode 4755 owner 0:0 mtime 1700000000.0 links 1 size 9000 "
            "object 1\n"
            "\"bin/tool\" inode 7 type 1 mode 755 owner 0:0 mtime 1700000001.0 links 2 size 5 "
            "object 2\n"
            "\"bin/tool2\" inode 7 type 1 mode 755 owner 0:0 mtime 1700000001.0 links 2 size 5 "
            "object 2\n"
            "\"dev/null\" inode 8 type 3 mode 666 owner 0:0 mtime -1.0 links 1 size 0 device 1:3\n"
            "\"dev/pipe\" inode 9 type 5 mode 600 owner 0:0 mtime 0.0 links 1 size 0\n"
            "\"etc/conf\" inode 10 type 1 mode 640 owner 1000:100 mtime 1600000000.123456789 "
            "links 1 size 5 object 3 security.capability=b8c177e7 user.origin=fcec9150\n"
            "\"etc/deep\" inode 11 type 0 mode 700 owner 0:0 mtime 5.0 links 2 size 0\n"
            "\"etc/same\" inode 12 type 1 mode 640 owner 1000:100 mtime 1600000000.123456789 "
            "links 1 size 5 object 3 security.capability=b8c177e7 user.origin=fcec9150\n"
            "\"etc/deep/big2\" inode 13 type 1 mode 644 owner 0:0 mtime 0.0 links 1 size 5000 "
            "object 4\n");
  EXPECT_EQ(objects.chunk_count(0), 0u);
  EXPECT_GT(objects.chunk_count(1), 3u);
  EXPECT_EQ(objects.chunk_count(2), 1u);
  EXPECT_EQ(objects.chunk(objects.first_chunk(2)).digest, sha256("tool!"));
  EXPECT_EQ(image.manifest->header().content_size, 9000u + 5 + 5 + 5000);
  EXPECT_EQ(image.manifest->digest(), image.anchor.manifest);
}

TEST(ManifestTest, FindsEachChunkInItsFrame) {
  const MadeImage image = make_sample();
  const cdc::Objects& objects = image.manifest->objects();
  EXPECT_EQ(objects.frame(0).layer, 0u);
  EXPECT_EQ(objects.frame(objects.frame_count() - 1).layer, 1u);
  // The sizes of the frames of the first layer are the sizes of its zstd frames.
  std::uint64_t end = 0;
  for (std::uint32_t i = 0; i < objects.frame_count() && objects.frame(i).layer == 0; ++i) {
    EXPECT_EQ(objects.frame(i).stored_offset, end);
    end += objects.frame(i).stored_size;
  }
  EXPECT_EQ(end, image.blobs[0].size());
  // chunk_at() agrees with a search by hand.
  for (std::uint64_t offset = 0; offset < 9000; offset += 97) {
    const std::uint32_t chunk = objects.chunk_at(1, offset);
    EXPECT_LE(objects.chunk(chunk).object_offset, offset);
    EXPECT_GT(objects.chunk(chunk).object_offset + objects.chunk(chunk).size, offset);
  }
}

TEST(ManifestTest, TheHeaderIsReadableBeforeTheRest) {
  const MadeImage image = make_sample();
  const auto bytes = ByteSpan(image.manifest_bytes);
  const auto header = Manifest::read_header(bytes.first(image.anchor.header_size), image.anchor);
  ASSERT_TRUE(header) << header.error().message();
  EXPECT_EQ(header->content_size, 14'010u);
  EXPECT_EQ(header->chunker.size_avg, 256u);
  ASSERT_EQ(header->sections.size(), 4u);
  EXPECT_EQ(header->sections[0].offset, image.anchor.header_size);
  EXPECT_EQ(Manifest::mount_size(*header), header->sections[1].offset);
  EXPECT_FALSE(Manifest::read_header(bytes.first(image.anchor.header_size - 1), image.anchor));
}

// --- golden -------------------------------------------------------------------------------------

// A manifest of format version 1 as it was when the format was fixed, with its anchor.
PutTogether golden() {
  std::ifstream in(IMSY_GOLDEN_DIR "/cdc-manifest-1.txt");
  PutTogether golden;
  std::string anchor;
  bool in_anchor = true;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("#")) continue;
    if (line.empty()) {
      in_anchor = false;
    } else if (in_anchor) {
      anchor += line + "\n";
    }
    for (std::size_t i = 0; !in_anchor && i + 1 < line.size(); i += 2) {
      golden.bytes.push_back(static_cast<std::byte>(std::stoi(line.substr(i, 2), nullptr, 16)));
    }
  }
  const auto parsed = cdc::Anchor::parse(anchor);
  EXPECT_TRUE(parsed);
  if (parsed) golden.anchor = *parsed;
  return golden;
}

TEST(ManifestGoldenTest, IsReadForEver) {
  const PutTogether image = golden();
  const auto manifest = Manifest::read(image.bytes, image.anchor);
  ASSERT_TRUE(manifest) << manifest.error().message();
  EXPECT_EQ(walk(**manifest), "");
  EXPECT_EQ(dump((*manifest)->tree()), dump(make_sample().manifest->tree()));
}

// The same image is written in the same way: everything but what a version of zstd decides, which
// is the stored size of frames and the compressed form of columns.
TEST(ManifestGoldenTest, IsStillWrittenLikeThat) {
  RawManifest then = take_apart(golden().bytes);
  RawManifest now = take_apart(make_sample().manifest_bytes);
  then.section(kFrames).columns[kStoredSizes].clear();
  now.section(kFrames).columns[kStoredSizes].clear();
  EXPECT_EQ(now.size_min, then.size_min);
  EXPECT_EQ(now.size_avg, then.size_avg);
  EXPECT_EQ(now.size_max, then.size_max);
  EXPECT_EQ(now.content_size, then.content_size);
  ASSERT_EQ(now.sections.size(), then.sections.size());
  for (std::size_t i = 0; i < now.sections.size(); ++i) {
    EXPECT_EQ(now.sections[i].kind, then.sections[i].kind);
    EXPECT_EQ(now.sections[i].flags, then.sections[i].flags);
    EXPECT_EQ(now.sections[i].plain, then.sections[i].plain) << i;
    ASSERT_EQ(now.sections[i].columns.size(), then.sections[i].columns.size());
    for (std::size_t column = 0; column < now.sections[i].columns.size(); ++column) {
      EXPECT_EQ(now.sections[i].columns[column], then.sections[i].columns[column])
          << "section " << i << ", column " << column;
    }
  }
}

TEST(ManifestTest, ImagesWithoutFilesWork) {
  const MadeImage image = ImageMaker().make();
  EXPECT_EQ(walk(*image.manifest), "");
  EXPECT_EQ(image.manifest->tree().inode_count(), 1u);
  EXPECT_EQ(image.manifest->objects().count(), 0u);
}

TEST(ManifestTest, FrameLessManifestsWork) {
  TreeBuilder builder({});
  const auto tree = builder.build(nullptr);
  ASSERT_TRUE(tree);
  cdc::ManifestParts parts;
  parts.tree = &*tree;
  const auto written = Manifest::write(parts);
  ASSERT_TRUE(written) << written.error().message();
  cdc::Anchor anchor;
  anchor.manifest = written->digest;
  anchor.header_size = written->header_size;
  anchor.manifest_size = written->bytes.size();
  anchor.data_layers = {{{}, written->bytes.size(), {}}};
  const auto manifest = Manifest::read(written->bytes, anchor);
  ASSERT_TRUE(manifest) << manifest.error().message();
  EXPECT_EQ((*manifest)->objects().frame_count(), 0u);
}

// --- what write() refuses -----------------------------------------------------------------------

TEST(ManifestWriteTest, RefusesPartsThatContradictEachOther) {
  TreeBuilder builder({});
  const auto object = builder.add_object(300);
  TreeBuilder::Attributes file;
  file.type = NodeType::kRegular;
  file.object = object;
  builder.add(TreeBuilder::kRoot, "file", file);
  const auto tree = builder.build(nullptr);
  ASSERT_TRUE(tree);
  const auto good = [&] {
    cdc::ManifestParts parts;
    parts.tree = &*tree;
    parts.objects = {{512, {sha256("a"), sha256("b")}, {100, 200}}};
    parts.frames = {{0, 612, 100, 0, 0}, {612, 1000, 100, 100, 0}, {1612, 10, 14, 0, 1}};
    return parts;
  };
  const auto refused = [&](auto change) {
    cdc::ManifestParts parts = good();
    change(parts);
    const auto written = Manifest::write(parts);
    return !written && written.error().code() == Errc::kInvalid;
  };
  using Parts = cdc::ManifestParts;
  EXPECT_FALSE(refused([](Parts&) {}));
  EXPECT_TRUE(refused([](Parts& p) { p.tree = nullptr; }));
  EXPECT_TRUE(refused([](Parts& p) { p.chunker.size_min = 1; }));
  EXPECT_TRUE(refused([](Parts& p) { p.objects.clear(); }));
  EXPECT_TRUE(refused([](Parts& p) { p.objects.push_back(p.objects[0]); }));
  EXPECT_TRUE(refused([](Parts& p) { p.objects[0].sizes.pop_back(); }));
  EXPECT_TRUE(refused([](Parts& p) { p.objects[0].sizes = {100, 199}; }));
  EXPECT_TRUE(refused([](Parts& p) { p.objects[0].sizes = {300, 0}; }));
  EXPECT_TRUE(refused([](Parts& p) { p.objects[0].digests[1] = sha256("a"); }));  // two lengths
  EXPECT_TRUE(refused([](Parts& p) { p.objects[0].raw_offset = 513; }));  // crosses a frame's end
  EXPECT_TRUE(refused([](Parts& p) { p.objects[0].raw_offset = 5000; }));
  EXPECT_TRUE(refused([](Parts& p) { p.frames.clear(); }));
  EXPECT_TRUE(refused([](Parts& p) { p.frames[0].raw_size = 0; }));
  EXPECT_TRUE(refused([](Parts& p) { p.frames[1].raw_offset = 613; }));
  EXPECT_TRUE(refused([](Parts& p) { p.frames[1].stored_offset = 101; }));
  EXPECT_TRUE(refused([](Parts& p) { p.frames[2].stored_offset = 200; }));
  EXPECT_TRUE(refused([](Parts& p) { p.frames[2].layer = 2; }));
  EXPECT_TRUE(refused([](Parts& p) { p.frames[0].layer = 1; }));
  EXPECT_TRUE(refused([](Parts& p) { std::swap(p.frames[0], p.frames[2]); }));
}

// --- random trees -------------------------------------------------------------------------------

struct RandomNode {
  std::string path;
  TreeBuilder::Attributes attributes;  // object: index into contents
  std::string linked_to;               // hard link
};

class RandomImage {
 public:
  explicit RandomImage(std::uint64_t seed) : generator_(seed) {
    std::vector<std::string> directories = {""};
    std::vector<std::string> others;
    for (std::uint64_t count = generator_() % 200; count > 0; --count) {
      RandomNode node;
      node.path = directories[generator_() % directories.size()];
      if (!node.path.empty()) node.path += "/";
      node.path += "n" + std::to_string(nodes.size()) + random_text(20);
      if (!others.empty() && generator_() % 8 == 0) {
        node.linked_to = others[generator_() % others.size()];
      } else {
        node.attributes = random_attributes();
        auto& list = node.attributes.type == NodeType::kDirectory ? directories : others;
        list.push_back(node.path);
      }
      nodes.push_back(std::move(node));
    }
  }

  std::vector<RandomNode> nodes;
  std::vector<Bytes> contents;

 private:
  std::string random_text(std::size_t size_max) {
    std::string text;
    for (std::size_t size = generator_() % (size_max + 1); size > 0; --size) {
      const char c = static_cast<char>(generator_());
      text.push_back(c == '/' || c == '\0' ? '_' : c);
    }
    return text;
  }

  TreeBuilder::Attributes random_attributes() {
    TreeBuilder::Attributes a;
    a.type = static_cast<NodeType>(generator_() % 6);
    a.mode = static_cast<std::uint16_t>(generator_() % 010000);
    a.uid = static_cast<std::uint32_t>(generator_() % 3 == 0 ? generator_() % 0xffffffff : 0);
    a.gid = static_cast<std::uint32_t>(generator_() % 3 == 0 ? generator_() % 0xffffffff : 0);
    const std::int64_t times[] = {0, 1'700'000'000, static_cast<std::int64_t>(generator_()),
                                  std::numeric_limits<std::int64_t>::min(),
                                  std::numeric_limits<std::int64_t>::max()};
    a.mtime_s = times[generator_() % 5];
    a.mtime_ns = static_cast<std::uint32_t>(generator_() % 1'000'000'000);
    a.target = "t" + random_text(100);
    a.device_major = static_cast<std::uint32_t>(generator_() % 4095) + 1;
    a.device_minor = static_cast<std::uint32_t>(generator_() % (1u << 20));
    for (std::uint64_t count = generator_() % 3; count > 0; --count) {
      a.xattrs.push_back(
          {"user." + std::to_string(generator_() % 5) + std::to_string(count), random_text(50)});
    }
    if (a.type == NodeType::kRegular) {
      a.object = static_cast<std::uint32_t>(contents.size());
      if (!contents.empty() && generator_() % 4 == 0) {
        a.object = static_cast<std::uint32_t>(generator_() % contents.size());
      } else {
        contents.push_back(
            random_bytes(generator_() % 8 == 0 ? 0 : generator_() % 5000, generator_()));
      }
    }
    return a;
  }

  std::mt19937_64 generator_;
};

MadeImage make(const RandomImage& random, const std::vector<std::size_t>& order) {
  ImageMaker maker;
  maker.chunker({cdc::ChunkerAlgorithm::kTwoStage, 64, 256, 1024}).frame_target(4096);
  for (const std::size_t i : order) {
    const RandomNode& node = random.nodes[i];
    if (!node.linked_to.empty()) {
      maker.hard_link(node.path, node.linked_to);
    } else if (node.attributes.type == NodeType::kRegular) {
      maker.file(node.path, random.contents[node.attributes.object], node.attributes);
    } else if (node.attributes.type == NodeType::kDirectory) {
      maker.directory(node.path, node.attributes);
    } else {
      maker.node(node.path, node.attributes);
    }
  }
  return maker.make();
}

void expect_same(const cdc::Tree& tree, const MadeImage& image, const RandomNode& node,
                 const Bytes* content) {
  const Inode& inode = tree.inode(image.inode(node.path));
  const TreeBuilder::Attributes& a = node.attributes;
  EXPECT_EQ(inode.type, a.type);
  EXPECT_EQ(inode.mode, a.mode);
  EXPECT_EQ(inode.uid, a.uid);
  EXPECT_EQ(inode.gid, a.gid);
  EXPECT_EQ(inode.mtime_s, a.mtime_s);
  EXPECT_EQ(inode.mtime_ns, a.mtime_ns);
  std::vector<cdc::Xattr> xattrs = a.xattrs;
  std::sort(xattrs.begin(), xattrs.end(), [](auto& x, auto& y) { return x.name < y.name; });
  EXPECT_TRUE(std::ranges::equal(tree.xattrs(inode), xattrs));
  if (a.type == NodeType::kSymlink) {
    EXPECT_EQ(tree.symlink_target(inode), a.target);
  } else if (a.type == NodeType::kCharDevice || a.type == NodeType::kBlockDevice) {
    EXPECT_EQ(inode.value, a.device_major);
    EXPECT_EQ(inode.count, a.device_minor);
  } else if (a.type == NodeType::kRegular) {
    EXPECT_EQ(tree.size_of(inode), content->size());
    std::vector<cdc::ChunkDigest> digests;
    std::uint64_t at = 0;
    for (const cdc::Chunk& chunk : image.manifest->objects().chunks_of(inode.value)) {
      EXPECT_EQ(chunk.digest, sha256(ByteSpan(*content).subspan(at, chunk.size)));
      at += chunk.size;
    }
    EXPECT_EQ(at, content->size());
  }
}

TEST(ManifestTest, RandomTreesComeBackAndOrderDoesNotMatter) {
  const std::uint64_t seed = std::random_device{}();
  for (std::uint64_t round = 0; round < 60; ++round) {
    SCOPED_TRACE("seed " + std::to_string(seed) + ", round " + std::to_string(round));
    const RandomImage random(seed + round);
    std::vector<std::size_t> order(random.nodes.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    const MadeImage image = make(random, order);
    ASSERT_EQ(walk(*image.manifest), "");
    std::map<std::string, const RandomNode*> by_path;
    for (const RandomNode& node : random.nodes) by_path[node.path] = &node;
    EXPECT_EQ(image.manifest->tree().entry_count(), random.nodes.size());
    for (const RandomNode& node : random.nodes) {
      if (!node.linked_to.empty()) {
        EXPECT_EQ(image.inode(node.path), image.inode(node.linked_to));
        continue;
      }
      const bool regular = node.attributes.type == NodeType::kRegular;
      expect_same(image.manifest->tree(), image, node,
                  regular ? &random.contents[node.attributes.object] : nullptr);
    }
    // Nodes given in another order that keeps parents and link targets first.
    std::vector<std::size_t> other;
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (random.nodes[i].attributes.type == NodeType::kDirectory &&
          random.nodes[i].linked_to.empty()) {
        other.push_back(i);
      }
    }
    for (std::size_t i = order.size(); i-- > 0;) {
      if (random.nodes[i].attributes.type != NodeType::kDirectory) other.push_back(i);
    }
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (!random.nodes[i].linked_to.empty()) other.push_back(i);
    }
    EXPECT_EQ(make(random, other).manifest_bytes, image.manifest_bytes);
  }
}

}  // namespace
}  // namespace imsy::test
