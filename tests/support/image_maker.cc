#include "tests/support/image_maker.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>

#include "cdc/frame.h"

namespace imsy::test {
namespace {

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "ImageMaker: %s\n", what.c_str());
  std::abort();
}

template <typename T>
T must(Result<T> result, const char* what) {
  if (!result) fail(std::string(what) + ": " + result.error().message());
  return std::move(result).value();
}

constexpr std::uint64_t kBlock = 512;  // of a tar

// Cuts the raw bytes of one data layer into frames. A chunk never spans two frames.
class LayerMaker {
 public:
  LayerMaker(std::uint32_t layer, std::uint64_t raw_base, std::uint32_t target)
      : layer_(layer), raw_base_(raw_base), target_(target) {}

  void header() {
    if (raw_.size() >= target_) cut(raw_.size());
    raw_.resize(raw_.size() + kBlock, std::byte{'h'});
  }
  // Where the next byte lies in the raw address space.
  std::uint64_t position() const { return raw_base_ + diff_size_ + raw_.size(); }
  void chunk(ByteSpan bytes) {
    // What precedes a chunk stays with it: cut before the last header.
    const std::size_t before = raw_.size() - tail_;
    if (tail_ > 0 && tail_ + before + bytes.size() > target_) cut(tail_);
    append(raw_, bytes);
    tail_ = raw_.size();
  }
  void pad() { raw_.resize((raw_.size() + kBlock - 1) / kBlock * kBlock, std::byte{'p'}); }
  void finish() {
    raw_.resize(raw_.size() + 2 * kBlock, std::byte{0});
    cut(raw_.size());
  }

  Bytes blob;
  std::vector<cdc::Frame> frames;
  Digest diff_id() { return diff_.finish(); }

 private:
  void cut(std::size_t size) {
    const ByteSpan raw(raw_.data(), size);
    Bytes stored = encoder_.encode(raw);
    frames.push_back({.raw_offset = raw_base_ + diff_size_,
                      .raw_size = static_cast<std::uint32_t>(size),
                      .stored_size = static_cast<std::uint32_t>(stored.size()),
                      .stored_offset = blob.size(),
                      .layer = layer_});
    append(blob, stored);
    diff_.update(raw);
    diff_size_ += size;
    raw_.erase(raw_.begin(), raw_.begin() + static_cast<std::ptrdiff_t>(size));
    tail_ = 0;
  }

  std::uint32_t layer_;
  std::uint64_t raw_base_;
  std::uint32_t target_;
  cdc::FrameEncoder encoder_{3};
  Hasher diff_;
  std::uint64_t diff_size_ = 0;
  Bytes raw_;             // not in a frame yet
  std::size_t tail_ = 0;  // bytes of raw_ up to the end of its last chunk
};

struct Content {
  Bytes bytes;
  std::vector<std::uint32_t> sizes;
  std::vector<cdc::ChunkDigest> digests;
};

Content cut_content(const cdc::Chunker& chunker, const Bytes& bytes) {
  Content content{.bytes = bytes, .sizes = cdc::chunk_lengths(chunker, bytes), .digests = {}};
  std::size_t at = 0;
  for (const std::uint32_t size : content.sizes) {
    content.digests.push_back(sha256(ByteSpan(bytes).subspan(at, size)));
    at += size;
  }
  return content;
}

std::vector<std::string> names_of(std::string_view path) {
  std::vector<std::string> names;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    names.emplace_back(path.substr(0, end));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  if (names.empty()) fail("an empty path");
  return names;
}

}  // namespace

struct ImageMaker::State {
  struct Item {
    std::string path;
    Attributes attributes;
    Bytes content;          // regular
    std::string linked_to;  // hard link, when not empty
  };
  Attributes root;
  std::vector<Item> items;
  cdc::ChunkerParameters chunker;
  std::uint32_t frame_target = 256u << 10;
  std::uint32_t layers = 1;

  cdc::Tree build_tree(std::vector<Content>& contents) const;
  MadeImage finish(const cdc::Tree& tree, const std::vector<Content>& contents) const;
};

ImageMaker::ImageMaker() : state_(std::make_unique<State>()) {}
ImageMaker::~ImageMaker() = default;

ImageMaker& ImageMaker::root(Attributes attributes) {
  attributes.type = cdc::NodeType::kDirectory;
  state_->root = std::move(attributes);
  return *this;
}

ImageMaker& ImageMaker::directory(std::string_view path, Attributes attributes) {
  attributes.type = cdc::NodeType::kDirectory;
  state_->items.push_back({std::string(path), std::move(attributes), {}, {}});
  return *this;
}

ImageMaker& ImageMaker::file(std::string_view path, Bytes content, Attributes attributes) {
  attributes.type = cdc::NodeType::kRegular;
  state_->items.push_back({std::string(path), std::move(attributes), std::move(content), {}});
  return *this;
}

ImageMaker& ImageMaker::file(std::string_view path, Bytes content) {
  Attributes attributes;
  attributes.mode = 0644;
  return file(path, std::move(content), std::move(attributes));
}

ImageMaker& ImageMaker::file(std::string_view path, std::string_view content) {
  return file(path, text_bytes(content));
}

ImageMaker& ImageMaker::symlink(std::string_view path, std::string target) {
  Attributes attributes;
  attributes.type = cdc::NodeType::kSymlink;
  attributes.mode = 0777;
  attributes.target = std::move(target);
  state_->items.push_back({std::string(path), std::move(attributes), {}, {}});
  return *this;
}

ImageMaker& ImageMaker::node(std::string_view path, Attributes attributes) {
  state_->items.push_back({std::string(path), std::move(attributes), {}, {}});
  return *this;
}

ImageMaker& ImageMaker::hard_link(std::string_view path, std::string_view existing) {
  state_->items.push_back({std::string(path), {}, {}, std::string(existing)});
  return *this;
}

ImageMaker& ImageMaker::chunker(const cdc::ChunkerParameters& parameters) {
  state_->chunker = parameters;
  return *this;
}

ImageMaker& ImageMaker::frame_target(std::uint32_t raw_size) {
  state_->frame_target = raw_size;
  return *this;
}

ImageMaker& ImageMaker::layers(std::uint32_t count) {
  state_->layers = count;
  return *this;
}

// The tree, and its objects' contents in the tree's numbering. Equal contents are one object.
cdc::Tree ImageMaker::State::build_tree(std::vector<Content>& contents) const {
  const cdc::Chunker cutter(chunker);
  cdc::TreeBuilder builder(root);
  std::map<std::string, cdc::TreeBuilder::NodeId> nodes{{"", cdc::TreeBuilder::kRoot}};
  std::map<cdc::ObjectId, std::uint32_t> objects;
  std::vector<Content> added;
  for (const Item& item : items) {
    std::string parent;
    const auto names = names_of(item.path);
    for (std::size_t i = 0; i + 1 < names.size(); ++i) {
      const std::string path = parent.empty() ? names[i] : parent + "/" + names[i];
      if (!nodes.contains(path)) nodes[path] = builder.add(nodes.at(parent), names[i], {});
      parent = path;
    }
    if (!item.linked_to.empty()) {
      builder.add_link(nodes.at(parent), names.back(), nodes.at(item.linked_to));
      nodes[item.path] = nodes.at(item.linked_to);
      continue;
    }
    Attributes attributes = item.attributes;
    if (attributes.type == cdc::NodeType::kRegular) {
      Content content = cut_content(cutter, item.content);
      const auto id = cdc::object_id(content.bytes.size(), content.digests);
      if (!objects.contains(id)) {
        objects[id] = builder.add_object(content.bytes.size());
        added.push_back(std::move(content));
      }
      attributes.object = objects[id];
    }
    nodes[item.path] = builder.add(nodes.at(parent), names.back(), std::move(attributes));
  }
  std::vector<std::uint32_t> order;
  cdc::Tree tree = must(builder.build(&order), "tree");
  for (const std::uint32_t old : order) contents.push_back(std::move(added.at(old)));
  return tree;
}

MadeImage ImageMaker::State::finish(const cdc::Tree& tree,
                                    const std::vector<Content>& contents) const {
  cdc::ManifestParts parts;
  parts.chunker = chunker;
  parts.tree = &tree;
  MadeImage image;
  std::uint64_t raw_base = 0;
  std::size_t object = 0;
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    LayerMaker maker(layer, raw_base, frame_target);
    const std::size_t end = contents.size() * (layer + 1) / layers;
    for (; object < end; ++object) {
      const Content& content = contents[object];
      maker.header();
      // An empty object lies nowhere.
      const std::uint64_t place = content.sizes.empty() ? 0 : maker.position();
      parts.objects.push_back({place, content.digests, content.sizes});
      std::size_t at = 0;
      for (const std::uint32_t size : content.sizes) {
        maker.chunk(ByteSpan(content.bytes).subspan(at, size));
        at += size;
      }
      maker.pad();
    }
    maker.finish();
    raw_base = maker.position();
    parts.frames.insert(parts.frames.end(), maker.frames.begin(), maker.frames.end());
    image.anchor.data_layers.push_back({{}, 0, maker.diff_id()});
    image.blobs.push_back(std::move(maker.blob));
  }
  auto written = must(cdc::Manifest::write(parts), "manifest");
  Bytes& last = image.blobs.back();
  append(last, must(cdc::skippable_header(written.bytes.size()), "skippable frame"));
  image.anchor.manifest = written.digest;
  image.anchor.header_size = written.header_size;
  image.anchor.manifest_size = written.bytes.size();
  image.anchor.manifest_offset = last.size();
  image.anchor.manifest_layer = layers - 1;
  append(last, written.bytes);
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    image.anchor.data_layers[layer].size = image.blobs[layer].size();
    image.anchor.data_layers[layer].blob = sha256(image.blobs[layer]);
  }
  image.anchor_text = image.anchor.to_text();
  image.manifest = must(cdc::Manifest::read(written.bytes, image.anchor), "manifest");
  image.manifest_bytes = std::move(written.bytes);
  return image;
}

MadeImage ImageMaker::make() const {
  std::vector<Content> contents;
  const cdc::Tree tree = state_->build_tree(contents);
  MadeImage image = state_->finish(tree, contents);
  for (const State::Item& item : state_->items) {
    if (!item.linked_to.empty()) {
      const auto target = image.files.find(item.linked_to);
      if (target != image.files.end()) image.files[item.path] = target->second;
    } else if (item.attributes.type == cdc::NodeType::kRegular) {
      image.files[item.path] = item.content;
    }
  }
  return image;
}

std::uint32_t MadeImage::inode(std::string_view path) const {
  const cdc::Tree& tree = manifest->tree();
  std::uint32_t at = 0;
  for (const std::string& name : names_of(path)) {
    const cdc::Entry* entry = tree.find(tree.inode(at), name);
    if (entry == nullptr) fail("no file " + std::string(path));
    at = entry->inode;
  }
  return at;
}

std::uint32_t MadeImage::object(std::string_view path) const {
  const cdc::Inode& node = manifest->tree().inode(inode(path));
  if (node.type != cdc::NodeType::kRegular) fail(std::string(path) + " is no regular file");
  return node.value;
}

std::uint64_t MadeImage::stored_size() const {
  std::uint64_t size = 0;
  for (const Bytes& blob : blobs) size += blob.size();
  return size;
}

Bytes random_bytes(std::size_t size, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  Bytes bytes((size + 7) / 8 * 8);
  for (std::size_t at = 0; at < bytes.size(); at += 8) store_le(bytes.data() + at, generator());
  bytes.resize(size);
  return bytes;
}

Bytes text_bytes(std::string_view text) {
  const ByteSpan bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}

}  // namespace imsy::test
