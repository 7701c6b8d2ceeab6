#include "converter/directory_tar.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/io.h"
#include "common/log.h"
#include "oci/decompress.h"
#include "oci/tar/tar.h"

namespace imsy::converter {
namespace {

using oci::tar::Header;
using oci::tar::Type;

constexpr std::size_t kXattrBytesMax = 64u << 10;  // the kernel's own limit, of list and values

// How the kernel reaches the inode behind a handle that cannot be read from.
std::string by_handle(const UniqueFd& handle) {
  return "/proc/self/fd/" + std::to_string(handle.get());
}

Result<UniqueFd> open_to_read(const UniqueFd& handle, int flags) {
  auto opened = open_file(by_handle(handle), O_RDONLY | flags);
  if (!opened) return Error::from_errno(opened.error().sys_errno(), "open to read");
  return opened;
}

Result<std::vector<std::string>> list_names(const UniqueFd& directory) {
  const int copy = ::fcntl(directory.get(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return Error::from_errno(errno, "read directory");
  DIR* stream = ::fdopendir(copy);
  if (stream == nullptr) {
    ::close(copy);
    return Error::from_errno(errno, "read directory");
  }
  std::vector<std::string> names;
  // The end and an error look alike but for errno, which anything else may set.
  const auto next = [stream] {
    errno = 0;
    return ::readdir(stream);
  };
  while (const dirent* entry = next()) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  const int problem = errno;
  ::closedir(stream);
  if (problem != 0) return Error::from_errno(problem, "read directory");
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::string> read_xattr(const std::string& inode, const std::string& name) {
  std::string value(kXattrBytesMax, '\0');
  const ssize_t size = ::getxattr(inode.c_str(), name.c_str(), value.data(), value.size());
  if (size < 0) return Error::from_errno(errno, "read extended attribute " + name);
  value.resize(static_cast<std::size_t>(size));
  return value;
}

Status read_xattrs(const UniqueFd& handle, Header& header) {
  const std::string inode = by_handle(handle);
  std::string list(kXattrBytesMax, '\0');
  const ssize_t size = ::listxattr(inode.c_str(), list.data(), list.size());
  if (size < 0 && errno == ENOTSUP) return {};
  if (size < 0) return Error::from_errno(errno, "list extended attributes");
  list.resize(static_cast<std::size_t>(size));
  for (std::size_t begin = 0; begin < list.size();) {
    const std::string name = list.c_str() + begin;
    IMSY_TRY_ASSIGN(header.xattrs[name], read_xattr(inode, name));
    begin += name.size() + 1;
  }
  return {};
}

Result<std::string> read_link(const UniqueFd& handle) {
  std::string target(PATH_MAX, '\0');
  const ssize_t size = ::readlinkat(handle.get(), "", target.data(), target.size());
  if (size < 0) return Error::from_errno(errno, "read link");
  target.resize(static_cast<std::size_t>(size));
  return target;
}

Type type_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR: return Type::kDirectory;
    case S_IFLNK: return Type::kSymlink;
    case S_IFCHR: return Type::kCharDevice;
    case S_IFBLK: return Type::kBlockDevice;
    case S_IFIFO: return Type::kFifo;
    default: return Type::kRegular;
  }
}

void set_attributes(const struct stat& st, Header& header) {
  header.mode = st.st_mode & 07777;
  header.uid = st.st_uid;
  header.gid = st.st_gid;
  header.mtime_s = st.st_mtim.tv_sec;
  header.mtime_ns = static_cast<std::uint32_t>(st.st_mtim.tv_nsec);
}

Result<Header> header_of(const UniqueFd& handle, const struct stat& st, std::string name) {
  Header header;
  header.name = std::move(name);
  header.type = type_of(st.st_mode);
  set_attributes(st, header);
  if (header.type == Type::kDirectory) header.name += '/';
  if (header.type == Type::kRegular) header.size = static_cast<std::uint64_t>(st.st_size);
  if (header.type == Type::kCharDevice || header.type == Type::kBlockDevice) {
    header.device_major = major(st.st_rdev);
    header.device_minor = minor(st.st_rdev);
  }
  if (header.type == Type::kSymlink) {
    IMSY_TRY_ASSIGN(header.link, read_link(handle));
  }
  IMSY_TRY(read_xattrs(handle, header));
  return header;
}

// Another name of an inode; readers apply owner, mode and mtime to it again.
Header link_to(const std::string& first_name, const std::string& name, const struct stat& st) {
  Header header;
  header.name = name;
  header.link = first_name;
  header.type = Type::kHardLink;
  set_attributes(st, header);
  return header;
}

class DirectoryTar : public ByteReader {
 public:
  explicit DirectoryTar(Warn warn) : warn_(warn) {}

  Status begin(const UniqueFd& root);
  Result<std::size_t> read(std::span<std::byte> buffer) override;

 private:
  struct Level {
    UniqueFd directory;
    std::vector<std::string> names;  // still to come, the next one last
    std::size_t prefix;              // length of path_ for this directory
  };
  using InodeKey = std::pair<dev_t, ino_t>;

  Status advance();
  Status add(const UniqueFd& handle);
  Status leave_out(const char* what) const;
  Status add_inode(const UniqueFd& handle, const struct stat& st);
  Status enter(const UniqueFd& handle);
  Status put_header(const Header& header);
  Result<std::size_t> read_content(std::span<std::byte> buffer);

  const Warn warn_;
  std::vector<Level> levels_;
  std::string path_;                        // of the current entry
  std::map<InodeKey, std::string> linked_;  // first names of files that have several
  std::string ready_;                       // headers, padding, the end: to be given out next
  std::size_t given_ = 0;                   // of ready_
  UniqueFd content_;                        // of the current entry, behind its header
  std::uint64_t content_left_ = 0;
  std::uint64_t padding_ = 0;
  std::uint64_t contents_left_ = oci::DecompressLimits{}.output;  // before the limit of an image
  bool ended_ = false;
};

Status DirectoryTar::begin(const UniqueFd& root) {
  struct stat st {};
  if (::fstat(root.get(), &st) != 0) return Error::from_errno(errno, "stat");
  IMSY_TRY_ASSIGN(const Header header, header_of(root, st, "."));
  IMSY_TRY(put_header(header));
  return enter(root);
}

Result<std::size_t> DirectoryTar::read(std::span<std::byte> buffer) {
  if (buffer.empty()) return std::size_t{0};
  while (given_ == ready_.size()) {
    if (content_left_ == 0 && ended_) return std::size_t{0};
    ready_.clear();
    given_ = 0;
    if (content_left_ > 0) return read_content(buffer);
    const Status next = advance();
    if (!next) return next.error().with_context(log::printable(path_));
  }
  const std::size_t count = std::min(buffer.size(), ready_.size() - given_);
  std::memcpy(buffer.data(), ready_.data() + given_, count);
  given_ += count;
  return count;
}

// Exactly as many bytes as the header says.
Result<std::size_t> DirectoryTar::read_content(std::span<std::byte> buffer) {
  const auto wanted = std::min<std::uint64_t>(buffer.size(), content_left_);
  const auto got = read_some(content_.get(), buffer.first(static_cast<std::size_t>(wanted)));
  if (!got) return got.error().with_context(log::printable(path_));
  if (*got == 0) {
    return Error(Errc::kCorrupt, log::printable(path_) + ": became shorter while it was read");
  }
  content_left_ -= *got;
  if (content_left_ == 0) ready_.assign(padding_, '\0');
  return got;
}

// Makes the next entry ready, or the end of the archive.
Status DirectoryTar::advance() {
  while (ready_.empty()) {
    if (levels_.empty()) {
      ended_ = true;
      ready_.assign(oci::tar::kEndSize, '\0');
      return {};
    }
    Level& level = levels_.back();
    path_.resize(level.prefix);
    if (level.names.empty()) {
      levels_.pop_back();
      continue;
    }
    const std::string name = std::move(level.names.back());
    level.names.pop_back();
    path_ += name;
    if (name.starts_with(".wh.")) {
      return Error(Errc::kInvalid, "an image cannot carry a name that begins with \".wh.\"");
    }
    IMSY_TRY_ASSIGN(const UniqueFd handle,
                    open_file_at(level.directory.get(), name, O_PATH | O_NOFOLLOW));
    IMSY_TRY(add(handle));
  }
  return {};
}

Status DirectoryTar::leave_out(const char* what) const {
  if (warn_ == Warn::kYes) log::warn("{} is left out path={}", what, log::printable(path_));
  return {};
}

Status DirectoryTar::add(const UniqueFd& handle) {
  struct stat st {};
  if (::fstat(handle.get(), &st) != 0) return Error::from_errno(errno, "stat");
  if (S_ISSOCK(st.st_mode)) return leave_out("a socket");
  // In a layer it would be a whiteout.
  if (S_ISCHR(st.st_mode) && st.st_rdev == 0) return leave_out("a character device 0:0");
  if (S_ISDIR(st.st_mode) || st.st_nlink < 2) return add_inode(handle, st);
  const auto [known, is_new] = linked_.try_emplace(InodeKey(st.st_dev, st.st_ino), path_);
  if (is_new) return add_inode(handle, st);
  return put_header(link_to(known->second, path_, st));
}

Status DirectoryTar::add_inode(const UniqueFd& handle, const struct stat& st) {
  IMSY_TRY_ASSIGN(const Header header, header_of(handle, st, path_));
  IMSY_TRY(put_header(header));
  if (header.type == Type::kDirectory) return enter(handle);
  if (header.size == 0) return {};
  if (header.size > contents_left_) {
    return Error(Errc::kInvalid,
                 fmt::format("the tree's files are larger than the limit of {} bytes together",
                             oci::DecompressLimits{}.output));
  }
  contents_left_ -= header.size;
  IMSY_TRY_ASSIGN(content_, open_to_read(handle, 0));
  content_left_ = header.size;
  padding_ = oci::tar::padding(header.size);
  return {};
}

Status DirectoryTar::enter(const UniqueFd& handle) {
  IMSY_TRY_ASSIGN(UniqueFd directory, open_to_read(handle, O_DIRECTORY));
  IMSY_TRY_ASSIGN(std::vector<std::string> names, list_names(directory));
  std::reverse(names.begin(), names.end());
  if (!levels_.empty()) path_ += '/';
  levels_.push_back({std::move(directory), std::move(names), path_.size()});
  return {};
}

Status DirectoryTar::put_header(const Header& header) {
  IMSY_TRY_ASSIGN(ready_, oci::tar::encode_header(header));
  return {};
}

}  // namespace

Result<std::unique_ptr<ByteReader>> open_directory_tar(const std::filesystem::path& path,
                                                       Warn warn) {
  IMSY_TRY_ASSIGN(const UniqueFd root, open_file(path, O_PATH | O_DIRECTORY));
  auto tar = std::make_unique<DirectoryTar>(warn);
  IMSY_TRY(tar->begin(root));
  return std::unique_ptr<ByteReader>(std::move(tar));
}

}  // namespace imsy::converter
