// Any bytes as the layers of an image: no crash, bounded work, and a tree that a node could serve.
//
// The first byte says how the others are read: as two tar archives with right checksums, or as
// entries of a few names, which meet each other much more often.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "converter/layer_tree.h"
#include "tests/fuzz/mended_tar.h"
#include "tests/fuzz/span_reader.h"

namespace imsy::converter {
namespace {

constexpr LayerLimits kLimits = {
    .entries = 2000, .depth = 20, .symlink_hops = 10, .text_bytes = 1u << 20, .steps = 20'000};

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "layer_fuzz: %s\n", what);
  std::abort();
}

Result<std::uint32_t> no_content() {
  return 0u;
}

// False when the layer is refused.
bool apply_tar(LayerTree& tree, ByteSpan data) {
  SpanReader input(data);
  oci::tar::Reader reader(input, {.sparse_expanded = 1u << 16});
  tree.begin_layer();
  for (oci::tar::Header header;;) {
    const auto more = reader.next(header);
    if (!more) return false;
    if (!*more) break;
    if (!tree.apply(header, no_content)) return false;
  }
  tree.end_layer();
  return true;
}

// Paths of at most three names, from two bytes.
std::string path_of(unsigned bits) {
  static constexpr std::array<const char*, 16> kNames = {
      "a",  "b",   "c",     "d",         "",
      ".",  "..",  ".wh.a", ".wh.b",     ".wh..wh..opq",
      "/a", "a/b", ".wh.",  ".wh..wh.x", "stargz.index.json",
      "a"};
  std::string path = kNames[bits & 15];
  if ((bits & 0x300) != 0) path += std::string("/") + kNames[(bits >> 4) & 15];
  if ((bits & 0x300) == 0x300) path += std::string("/") + kNames[(bits >> 12) & 15];
  return path;
}

bool apply_entries(LayerTree& tree, ByteSpan data) {
  tree.begin_layer();
  for (; data.size() >= 5; data = data.subspan(5)) {
    const auto byte = [&](std::size_t at) { return std::to_integer<unsigned>(data[at]); };
    oci::tar::Header header;
    header.type = static_cast<oci::tar::Type>(byte(0) % 7);
    header.name = path_of(byte(1) | byte(2) << 8);
    header.link = path_of(byte(3) | byte(4) << 8);
    header.mode = byte(0);
    header.mtime_s = byte(4);
    if (byte(0) > 250) header.xattrs["trusted.overlay.opaque"] = "y";
    ignore(tree.apply(header, no_content),
           "the tree must hold what is asserted whatever was refused");
    if (byte(0) % 16 != 15) continue;
    tree.end_layer();
    tree.begin_layer();
  }
  tree.end_layer();
  return true;
}

void check_name(const std::string& name) {
  require(!name.empty() && name != "." && name != ".." && name.size() <= 255, "a name is no name");
  require(name.find('/') == std::string::npos && name.find('\0') == std::string::npos,
          "a name has a slash or a NUL");
  require(!name.starts_with(".wh."), "a whiteout is left in the tree");
}

void check_inode(const LayerTree::Inode& inode) {
  require((inode.directory != nullptr) == (inode.type == cdc::NodeType::kDirectory),
          "a directory without children, or children without a directory");
  require((inode.content != cdc::kNone) == (inode.type == cdc::NodeType::kRegular),
          "a file without content, or content without a file");
  require(inode.type != cdc::NodeType::kCharDevice || inode.device_major != 0 ||
              inode.device_minor != 0,
          "a whiteout device is left in the tree");
  for (const auto& xattr : inode.xattrs) {
    require(cdc::is_legal_xattr(xattr.name), "an attribute that no node could set");
    require(!xattr.name.starts_with("user.overlay."), "an attribute that steers overlayfs");
  }
}

// Every directory is reached once, so this ends.
void check_tree(const LayerTree& tree) {
  std::vector<bool> seen(tree.inode_count());
  std::vector<std::pair<LayerTree::InodeId, unsigned>> pending{{LayerTree::kRoot, 0}};
  while (!pending.empty()) {
    const auto [id, depth] = pending.back();
    pending.pop_back();
    require(!seen[id], "a directory has two names");
    seen[id] = true;
    require(depth <= kLimits.depth, "deeper than the limit");
    for (const auto& [name, child] : tree.inode(id).directory->children) {
      require(child.inode < tree.inode_count(), "a name of no inode");
      check_name(name);
      check_inode(tree.inode(child.inode));
      if (tree.inode(child.inode).directory) pending.emplace_back(child.inode, depth + 1);
    }
  }
}

void run(ByteSpan data) {
  if (data.empty()) return;
  const auto first = std::to_integer<unsigned>(data[0]);
  data = data.subspan(1);
  LayerTree tree(kLimits);
  bool whole = true;
  if (first % 2 == 0) {
    const std::size_t cut = std::min<std::size_t>(data.size(), first / 2 * 512);
    whole = apply_tar(tree, mended_tar(data.first(cut))) &&
            apply_tar(tree, mended_tar(data.subspan(cut)));
  } else {
    whole = apply_entries(tree, data);
  }
  if (whole) check_tree(tree);
}

}  // namespace
}  // namespace imsy::converter

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  imsy::converter::run(std::as_bytes(std::span(data, size)));
  return 0;
}
