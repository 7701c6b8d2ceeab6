#include "fuse/image_fs.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <mutex>
#include <optional>
#include <utility>

#include "fuse/errno.h"

namespace imsy::fuse {
namespace {

constexpr std::uint32_t kBlockSize = 4096;  // preferred size of a read, and the unit of statfs
constexpr std::uint32_t kStatBlock = 512;   // the unit of st_blocks
constexpr std::uint64_t kDotEntries = 2;    // "." and ".." stand before all others

Error no_such_node() {
  return Error(Errc::kNotFound, "no such node");
}
// A program is told EIO of content that does not come, whatever the reason: any other errno would
// speak of its own call. The reason stays in the message, for the log.
Error content_error(const Error& error) {
  if (to_errno(error.code()) == EIO) return error;
  return Error(Errc::kUnavailable, std::string(to_string(error.code())) + ": " + error.message());
}
Error not_a_directory() {
  return Error(Errc::kFailedPrecondition, "not a directory");
}

std::uint32_t type_bits(cdc::NodeType type) {
  switch (type) {
    case cdc::NodeType::kDirectory: return S_IFDIR;
    case cdc::NodeType::kRegular: return S_IFREG;
    case cdc::NodeType::kSymlink: return S_IFLNK;
    case cdc::NodeType::kCharDevice: return S_IFCHR;
    case cdc::NodeType::kBlockDevice: return S_IFBLK;
    case cdc::NodeType::kFifo: return S_IFIFO;
  }
  return 0;
}

Slot slot_of(NodeId node) {
  return static_cast<Slot>(node >> 32);
}

// A node of an image; holds the image, so that the references into its tree stay good.
struct Place {
  std::shared_ptr<cas::Image> image;
  Slot slot = 0;
  std::uint32_t index = 0;

  const cdc::Manifest& manifest() const { return *image->manifest(); }
  const cdc::Tree& tree() const { return manifest().tree(); }
  const cdc::Inode& inode() const { return tree().inode(index); }
  bool is_directory() const { return inode().type == cdc::NodeType::kDirectory; }
};

Result<Place> find_place(const ImageFs& fs, NodeId node) {
  const auto low = static_cast<std::uint32_t>(node);
  const Slot slot = slot_of(node);
  if (slot == 0 || low == 0) return no_such_node();
  auto image = fs.image(slot);
  if (image == nullptr || low - 1 >= image->manifest()->tree().inode_count()) return no_such_node();
  return Place{std::move(image), slot, low - 1};
}

struct stat stat_of(const cdc::Tree& tree, Slot slot, std::uint32_t index) {
  const cdc::Inode& inode = tree.inode(index);
  struct stat st {};
  st.st_ino = node_id(slot, index);
  st.st_mode = type_bits(inode.type) | (inode.mode & 07777u);
  st.st_nlink = inode.link_count;
  st.st_uid = inode.uid;
  st.st_gid = inode.gid;
  if (inode.type == cdc::NodeType::kCharDevice || inode.type == cdc::NodeType::kBlockDevice) {
    st.st_rdev = makedev(inode.value, inode.count);
  }
  st.st_size = static_cast<off_t>(tree.size_of(inode));
  st.st_blksize = kBlockSize;
  st.st_blocks = (st.st_size + kStatBlock - 1) / kStatBlock;
  // An image records one time. Equal ones for all three keep tools that compare them content.
  st.st_mtim = {.tv_sec = inode.mtime_s, .tv_nsec = inode.mtime_ns};
  st.st_atim = st.st_mtim;
  st.st_ctim = st.st_mtim;
  return st;
}

// The root directory lists slots; its times say nothing, since slots come and go by themselves.
struct stat stat_of_root(std::size_t images) {
  struct stat st {};
  st.st_ino = kRootId;
  st.st_mode = S_IFDIR | 0755;
  st.st_nlink = kDotEntries + images;
  st.st_blksize = kBlockSize;
  return st;
}

// The slot called `name`: decimal without sign or leading zeros, so that a slot has one name.
std::optional<Slot> parse_slot(std::string_view name) {
  Slot slot = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), slot);
  if (error != std::errc() || end != name.data() + name.size()) return std::nullopt;
  if (slot == 0 || slot > kSlotMax || name.front() == '0') return std::nullopt;
  return slot;
}

// The manifest reader refuses such names already. This is the last line before a kernel that
// would take "trusted.overlay.redirect" of a lower layer at its word.
bool belongs_to_overlayfs(std::string_view xattr) {
  return xattr.starts_with("trusted.overlay.") || xattr.starts_with("user.overlay.");
}

// A path of inode `index`; the first in tree order when there are several.
std::string path_of(const cdc::Tree& tree, std::uint32_t index) {
  if (index == 0) return "/";
  for (std::uint32_t i = 0; i < tree.inode_count(); ++i) {
    if (tree.inode(i).type != cdc::NodeType::kDirectory) continue;
    for (const cdc::Entry& entry : tree.entries_of(tree.inode(i))) {
      if (entry.inode != index) continue;
      const std::string directory = tree.path_of(i);
      return (directory.empty() ? "/" : "/" + directory + "/") + std::string(tree.name(entry));
    }
  }
  return "?";
}

// Names come from an image: none of them may start a new log line or drive a terminal.
std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > 0x20 && byte < 0x7f && byte != '\\') {
      safe += c;
    } else {
      constexpr std::string_view kHex = "0123456789abcdef";
      safe += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return safe;
}

}  // namespace

Status ImageFs::add(Slot slot, std::shared_ptr<cas::Image> image) {
  if (slot == 0 || slot > kSlotMax) {
    return Error(Errc::kInvalid,
                 "slot " + std::to_string(slot) + " is not in 1 .. " + std::to_string(kSlotMax));
  }
  const std::unique_lock lock(mu_);
  if (!images_.try_emplace(slot, std::move(image)).second) {
    return Error(Errc::kAlreadyExists, "slot " + std::to_string(slot) + " has an image already");
  }
  return {};
}

void ImageFs::remove(Slot slot) {
  std::shared_ptr<cas::Image> last;  // detaching may take a while: not under the lock
  const std::unique_lock lock(mu_);
  if (const auto found = images_.find(slot); found != images_.end()) {
    last = std::move(found->second);
    images_.erase(found);
  }
}

std::shared_ptr<cas::Image> ImageFs::image(Slot slot) const {
  const std::shared_lock lock(mu_);
  const auto found = images_.find(slot);
  return found == images_.end() ? nullptr : found->second;
}

Result<struct stat> ImageFs::lookup(NodeId parent, std::string_view name) const {
  if (parent == kRootId) {
    const auto slot = parse_slot(name);
    if (!slot) return no_such_node();
    return attributes(node_id(*slot, 0));
  }
  IMSY_TRY_ASSIGN(const Place at, find_place(*this, parent));
  if (!at.is_directory()) return not_a_directory();
  const cdc::Entry* entry = at.tree().find(at.inode(), name);
  if (entry == nullptr) return Error(Errc::kNotFound, "no such entry");
  return stat_of(at.tree(), at.slot, entry->inode);
}

Result<struct stat> ImageFs::attributes(NodeId node) const {
  if (node == kRootId) {
    const std::shared_lock lock(mu_);
    return stat_of_root(images_.size());
  }
  IMSY_TRY_ASSIGN(const Place at, find_place(*this, node));
  return stat_of(at.tree(), at.slot, at.index);
}

Result<std::string> ImageFs::read_link(NodeId node) const {
  if (node == kRootId) return Error(Errc::kFailedPrecondition, "not a link");
  IMSY_TRY_ASSIGN(const Place at, find_place(*this, node));
  if (at.inode().type != cdc::NodeType::kSymlink) {
    return Error(Errc::kFailedPrecondition, "not a link");
  }
  return std::string(at.tree().symlink_target(at.inode()));
}

Result<std::vector<DirectoryEntry>> ImageFs::read_directory(NodeId node, std::uint64_t offset,
                                                            std::size_t count) const {
  std::vector<DirectoryEntry> list;
  const auto add_dots = [&](NodeId parent) {
    if (offset == 0 && list.size() < count) list.push_back({".", node, S_IFDIR, 1});
    if (offset <= 1 && list.size() < count) list.push_back({"..", parent, S_IFDIR, kDotEntries});
  };
  if (node == kRootId) {
    add_dots(kRootId);
    // Slot s stands at position s + 1, whatever other slots there are.
    const std::uint64_t first = std::max(offset, kDotEntries) - 1;
    if (first > kSlotMax) return list;
    const std::shared_lock lock(mu_);
    for (auto at = images_.lower_bound(static_cast<Slot>(first));
         at != images_.end() && list.size() < count; ++at) {
      list.push_back({std::to_string(at->first), node_id(at->first, 0), S_IFDIR,
                      std::uint64_t{at->first} + kDotEntries});
    }
    return list;
  }
  IMSY_TRY_ASSIGN(const Place at, find_place(*this, node));
  if (!at.is_directory()) return not_a_directory();
  const cdc::Tree& tree = at.tree();
  add_dots(at.index == 0 ? kRootId : node_id(at.slot, tree.parent_of(at.index)));
  const auto entries = tree.entries_of(at.inode());
  const std::uint64_t first = std::max(offset, kDotEntries) - kDotEntries;
  if (first >= entries.size()) return list;
  list.reserve(std::min(count, list.size() + entries.size() - first));
  for (std::uint64_t i = first; i < entries.size() && list.size() < count; ++i) {
    const cdc::Entry& entry = entries[i];
    list.push_back({std::string(tree.name(entry)), node_id(at.slot, entry.inode),
                    type_bits(tree.inode(entry.inode).type), i + kDotEntries + 1});
  }
  return list;
}

Result<std::string> ImageFs::get_xattr(NodeId node, std::string_view name) const {
  const auto no_such_attribute = [] { return Error(Errc::kNotFound, "no such xattr"); };
  if (node == kRootId || belongs_to_overlayfs(name)) return no_such_attribute();
  IMSY_TRY_ASSIGN(const Place at, find_place(*this, node));
  const auto xattrs = at.tree().xattrs(at.inode());
  const auto found = std::find_if(xattrs.begin(), xattrs.end(),
                                  [name](const cdc::Xattr& x) { return x.name == name; });
  if (found == xattrs.end()) return no_such_attribute();
  return found->value;
}

Result<std::vector<std::string>> ImageFs::list_xattrs(NodeId node) const {
  std::vector<std::string> names;
  if (node == kRootId) return names;
  IMSY_TRY_ASSIGN(const Place at, find_place(*this, node));
  for (const cdc::Xattr& xattr : at.tree().xattrs(at.inode())) {
    if (!belongs_to_overlayfs(xattr.name)) names.push_back(xattr.name);
  }
  return names;
}

ImageFsTotals ImageFs::totals() const {
  ImageFsTotals totals;
  const std::shared_lock lock(mu_);
  for (const auto& [slot, image] : images_) {
    totals.images += 1;
    totals.inodes += image->manifest()->tree().inode_count();
    totals.content_bytes += image->manifest()->header().content_size;
  }
  return totals;
}

std::uint64_t ImageFs::read(NodeId node, std::uint64_t offset, std::uint32_t length,
                            ReadDone done) {
  auto at = node == kRootId ? Result<Place>(no_such_node()) : find_place(*this, node);
  if (!at) {
    done(std::move(at).error());
    return 0;
  }
  const cdc::Inode& inode = at->inode();
  if (inode.type != cdc::NodeType::kRegular) {
    done(Error(Errc::kFailedPrecondition, "not a regular file"));
    return 0;
  }
  const std::uint64_t size = at->tree().size_of(inode);
  if (offset >= size || length == 0) {
    done(Bytes());
    return 0;
  }
  const auto cut = static_cast<std::uint32_t>(std::min<std::uint64_t>(length, size - offset));
  // The callback holds the image, so that remove() does not cut off a read in progress.
  return at->image->read(inode.value, offset, cut,
                         [image = at->image, cut, done = std::move(done)](Result<Bytes> bytes) {
                           if (!bytes) bytes = content_error(bytes.error());
                           if (bytes && bytes->size() != cut) {
                             // The kernel would show the rest as zeros.
                             bytes = Error(Errc::kInternal, "got " + std::to_string(bytes->size()) +
                                                                " bytes instead of " +
                                                                std::to_string(cut));
                           }
                           done(std::move(bytes));
                         });
}

void ImageFs::cancel(NodeId node, std::uint64_t read) {
  if (const auto holder = image(slot_of(node)); holder != nullptr) holder->cancel(read);
}

std::string ImageFs::describe(NodeId node) const {
  if (node == kRootId) return "file=/ (list of images)";
  const auto at = find_place(*this, node);
  if (!at) return "node=" + std::to_string(node) + " (no image there)";
  std::string text = "image=" + at->manifest().digest().to_string() +
                     " file=" + escaped(path_of(at->tree(), at->index));
  if (at->inode().type == cdc::NodeType::kRegular &&
      at->inode().value < at->manifest().objects().count()) {
    text += " object=" + at->manifest().objects().id(at->inode().value).hex();
  }
  return text;
}

}  // namespace imsy::fuse
