#include "cli/image/tree_writer.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "cli/image/remove_tree.h"
#include "common/log.h"

namespace imsy::cli::image {
namespace {

namespace fs = std::filesystem;
using cdc::Inode;
using cdc::NodeType;

constexpr std::size_t kBlock = 4096;  // what a hole is made of
constexpr std::uint64_t kWarningsMax = 10;

// `what` for a call that gave `result`.
Status done(int result, const char* what) {
  return result == 0 ? Status() : Status(Error::from_errno(errno, what));
}

bool all_zero(ByteSpan data) {
  return data[0] == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0;
}

// Writes what is not zero: whole blocks of zeros are left as the holes that they are.
Status write_sparse(int file, std::uint64_t offset, ByteSpan bytes) {
  while (!bytes.empty()) {
    std::size_t length = 0;  // up to the next block of zeros
    std::size_t zeros = 0;
    while (length < bytes.size() && zeros == 0) {
      const std::size_t block =
          std::min<std::size_t>(kBlock - (offset + length) % kBlock, bytes.size() - length);
      if (all_zero(bytes.subspan(length, block))) {
        zeros = block;
      } else {
        length += block;
      }
    }
    if (length > 0) IMSY_TRY(pwrite_all(file, bytes.first(length), offset));
    offset += length + zeros;
    bytes = bytes.subspan(length + zeros);
  }
  return {};
}

// The whole path, without a slash at its end.
Result<fs::path> normalised(const fs::path& path) {
  std::error_code problem;
  const fs::path full = fs::absolute(path, problem).lexically_normal();
  if (problem) return Error::from_errno(problem.value(), "directory \"" + path.string() + '"');
  return full.has_filename() ? full : full.parent_path();
}

// Nothing can be renamed over it.
bool is_mount_point(const fs::path& directory) {
  struct stat self {};
  struct stat parent {};
  return ::stat(directory.c_str(), &self) == 0 &&
         ::stat((directory / "..").c_str(), &parent) == 0 && self.st_dev != parent.st_dev;
}

// Attributes of users belong to files and directories; kernels allow them nowhere else.
bool is_refused(int error, const cdc::Xattr& xattr, NodeType type) {
  if (error == ENOTSUP) return true;
  return error == EPERM && xattr.name.starts_with("user.") && type != NodeType::kRegular &&
         type != NodeType::kDirectory;
}

}  // namespace

TreeWriter::TreeWriter(fs::path target, const cdc::Tree& tree, const std::stop_token& stop)
    : target_(std::move(target)),
      tree_(tree),
      stop_(stop),
      names_(tree.inode_count()),
      inode_of_(tree.object_count(), cdc::kNone) {}

TreeWriter::~TreeWriter() {
  if (building_.empty()) return;
  const Status removed = remove_tree(building_);
  if (!removed) log::warn("cannot remove {}: {}", building_.string(), removed.error().message());
}

Status TreeWriter::check_stop() const {
  return stop_.stop_requested() ? Status(Error(Errc::kCancelled, "interrupted")) : Status();
}

Status TreeWriter::check_target(const fs::path& path) {
  IMSY_TRY_ASSIGN(const fs::path target, normalised(path));
  std::error_code problem;
  const auto status = fs::symlink_status(target, problem);
  if (status.type() == fs::file_type::not_found) return {};
  if (problem) return Error::from_errno(problem.value(), target.string());
  const bool empty =
      status.type() == fs::file_type::directory && fs::is_empty(target, problem) && !problem;
  if (empty && is_mount_point(target)) {
    return Error(Errc::kInvalid, target.string() + ": is a mount point; name a directory in it");
  }
  if (empty && !fs::equivalent(target, ".", problem)) return {};
  return Error(Errc::kInvalid,
               target.string() +
                   (empty ? ": is the current directory" : ": is not an empty directory") +
                   "; name a new one");
}

Result<std::unique_ptr<TreeWriter>> TreeWriter::create(const fs::path& target,
                                                       const cdc::Tree& tree,
                                                       const std::stop_token& stop) {
  IMSY_TRY(check_target(target));
  IMSY_TRY_ASSIGN(auto path, normalised(target));
  std::unique_ptr<TreeWriter> writer(new TreeWriter(std::move(path), tree, stop));
  IMSY_TRY(writer->make_directory());
  IMSY_TRY(writer->make_tree());
  return writer;
}

Status TreeWriter::make_directory() {
  std::string name = (target_.parent_path() / ".imsy-unpack-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) return Error::from_errno(errno, "create " + name);
  building_ = name;
  IMSY_TRY_ASSIGN(root_, open_file(building_, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  return {};
}

// Inodes are numbered breadth first, so a directory is there when its entries are made.
Status TreeWriter::make_tree() {
  for (std::uint32_t inode = 0; inode < tree_.inode_count(); ++inode) {
    if (tree_.inode(inode).type == NodeType::kDirectory) IMSY_TRY(make_entries(inode));
  }
  return {};
}

Status TreeWriter::make_entries(std::uint32_t directory) {
  const Inode& inode = tree_.inode(directory);
  if (inode.count == 0) return {};
  IMSY_TRY_ASSIGN(const UniqueFd folder, open(path_of(directory), O_RDONLY | O_DIRECTORY));
  for (std::uint32_t index = inode.value; index < inode.value + inode.count; ++index) {
    IMSY_TRY(check_stop());
    const cdc::Entry& entry = tree_.entry(index);
    const std::string name(tree_.name(entry));
    const bool known = names_[entry.inode].directory != cdc::kNone;
    const Status made = known ? make_link(folder.get(), name.c_str(), entry.inode)
                              : make_entry(folder.get(), name.c_str(), entry.inode);
    if (!known) names_[entry.inode] = {directory, index};
    if (!made) return made.error().with_context(log::printable(path_of(entry.inode)));
    const Inode& child = tree_.inode(entry.inode);
    if (child.type == NodeType::kRegular && inode_of_[child.value] == cdc::kNone) {
      inode_of_[child.value] = entry.inode;
    }
  }
  return {};
}

Status TreeWriter::make_entry(int directory, const char* name, std::uint32_t inode) const {
  const Inode& node = tree_.inode(inode);
  switch (node.type) {
    case NodeType::kDirectory: return done(::mkdirat(directory, name, 0700), "mkdir");
    case NodeType::kSymlink: {
      const std::string to(tree_.symlink_target(node));
      return done(::symlinkat(to.c_str(), directory, name), "symlink");
    }
    case NodeType::kFifo: return done(::mknodat(directory, name, S_IFIFO | 0600, 0), "mkfifo");
    case NodeType::kCharDevice:
    case NodeType::kBlockDevice: {
      const mode_t type = node.type == NodeType::kCharDevice ? S_IFCHR : S_IFBLK;
      return done(::mknodat(directory, name, type | 0600, makedev(node.value, node.count)),
                  "mknod");
    }
    case NodeType::kRegular: break;
  }
  IMSY_TRY_ASSIGN(const UniqueFd file,
                  open_file_at(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  return done(::ftruncate(file.get(), static_cast<off_t>(tree_.size_of(node))), "ftruncate");
}

Status TreeWriter::make_link(int directory, const char* name, std::uint32_t inode) const {
  const Name& first = names_[inode];
  IMSY_TRY_ASSIGN(const UniqueFd folder, open(path_of(first.directory), O_PATH | O_DIRECTORY));
  const std::string to(tree_.name(tree_.entry(first.entry)));
  return done(::linkat(folder.get(), to.c_str(), directory, name, 0), "link");
}

Status TreeWriter::write(std::uint32_t object, std::uint64_t offset, ByteSpan bytes) {
  IMSY_TRY(check_stop());
  const std::uint32_t inode = inode_of_[object];
  if (object != open_object_) {
    IMSY_TRY_ASSIGN(open_file_, open(path_of(inode), O_WRONLY));
    open_object_ = object;
  }
  const Status written = write_sparse(open_file_.get(), offset, bytes);
  return written ? written : written.error().with_context(log::printable(path_of(inode)));
}

Status TreeWriter::finish() {
  open_file_.reset();
  IMSY_TRY(copy_contents());
  for (std::uint32_t inode = tree_.inode_count(); inode-- > 0;) {
    IMSY_TRY(check_stop());
    const Status set = set_attributes(inode);
    if (!set) return set.error().with_context(log::printable(path_of(inode)));
  }
  if (xattrs_left_out_ > kWarningsMax) {
    log::warn("and {} more extended attributes are left out", xattrs_left_out_ - kWarningsMax);
  }
  // Takes the place of an empty directory, but of nothing else.
  if (::rename(building_.c_str(), target_.c_str()) != 0) {
    return Error::from_errno(errno, "rename to " + target_.string());
  }
  building_.clear();
  return {};
}

// Several files may have one content; it was written to one of them.
Status TreeWriter::copy_contents() {
  for (std::uint32_t inode = 0; inode < tree_.inode_count(); ++inode) {
    IMSY_TRY(check_stop());
    const Inode& node = tree_.inode(inode);
    if (node.type != NodeType::kRegular || inode_of_[node.value] == inode) continue;
    IMSY_TRY_ASSIGN(const UniqueFd from, open(path_of(inode_of_[node.value]), O_RDONLY));
    IMSY_TRY_ASSIGN(const UniqueFd to, open(path_of(inode), O_WRONLY));
    const Status copied = copy(from.get(), to.get(), tree_.size_of(node));
    if (!copied) return copied.error().with_context(log::printable(path_of(inode)));
  }
  return {};
}

// Holes are passed over, so that they cost no time.
Status TreeWriter::copy(int from, int to, std::uint64_t size) const {
  Bytes buffer(static_cast<std::size_t>(std::min<std::uint64_t>(size, 1u << 20)));
  for (std::uint64_t offset = 0; offset < size;) {
    IMSY_TRY(check_stop());
    const off_t data = ::lseek(from, static_cast<off_t>(offset), SEEK_DATA);
    if (data < 0 && errno == ENXIO) return {};  // nothing but a hole is left
    if (data < 0) return Error::from_errno(errno, "look for data");
    offset = static_cast<std::uint64_t>(data);
    if (offset >= size) return {};
    const auto piece = std::span(buffer).first(
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), size - offset)));
    IMSY_TRY(pread_all(from, piece, offset));
    IMSY_TRY(write_sparse(to, offset, piece));
    offset += piece.size();
  }
  return {};
}

Status TreeWriter::set_xattr(const std::string& place, std::uint32_t inode,
                             const cdc::Xattr& xattr) {
  const int set =
      ::setxattr(place.c_str(), xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0);
  if (set == 0) return {};
  const int error = errno;
  const std::string name = log::printable(xattr.name);
  if (!is_refused(error, xattr, tree_.inode(inode).type)) {
    return Error::from_errno(error, "set extended attribute " + name);
  }
  if (++xattrs_left_out_ <= kWarningsMax) {
    log::warn("{}: extended attribute {} is left out: {}", path_of(inode), name,
              std::strerror(error));
  }
  return {};
}

// A change of owner takes away set-uid bits and capabilities, so it comes first.
Status TreeWriter::set_attributes(std::uint32_t inode) {
  const Inode& node = tree_.inode(inode);
  IMSY_TRY_ASSIGN(const UniqueFd handle, open(path_of(inode), O_PATH | O_NOFOLLOW));
  // The inode itself, also when it is a symlink.
  const std::string place = "/proc/self/fd/" + std::to_string(handle.get());
  IMSY_TRY(done(::fchownat(handle.get(), "", node.uid, node.gid, AT_EMPTY_PATH), "chown"));
  for (const cdc::Xattr& xattr : tree_.xattrs(node)) IMSY_TRY(set_xattr(place, inode, xattr));
  if (node.type != NodeType::kSymlink) IMSY_TRY(done(::chmod(place.c_str(), node.mode), "chmod"));
  const timespec times[2] = {{0, UTIME_OMIT}, {node.mtime_s, node.mtime_ns}};
  return done(::utimensat(AT_FDCWD, place.c_str(), times, 0), "set mtime");
}

// Beneath the root; "." for the root itself.
std::string TreeWriter::path_of(std::uint32_t inode) const {
  if (inode == 0) return ".";
  std::string path;
  for (; inode != 0; inode = names_[inode].directory) {
    path.insert(0, "/" + std::string(tree_.name(tree_.entry(names_[inode].entry))));
  }
  return path.substr(1);
}

Result<UniqueFd> TreeWriter::open(const std::string& path, int flags) const {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  for (;;) {
    const long fd = ::syscall(SYS_openat2, root_.get(), path.c_str(), &how, sizeof how);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if (errno != EINTR && errno != EAGAIN) {
      return Error::from_errno(errno, "open " + log::printable(path));
    }
  }
}

}  // namespace imsy::cli::image
