// On disk: docs/format/store.md.
#include "cas/layout.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <memory>

#include "common/log.h"
#include "common/sys.h"

namespace imsy::cas {
namespace {

constexpr const char* kManifests = "manifests";
constexpr const char* kTrash = "trash";
constexpr const char* kBrokenMark = "index.db.is-broken";
constexpr int kBrokenKept = 5;

const char* folder_name(Place place) {
  return place == Place::kObjects ? "objects" : "partial";
}

Result<UniqueFd> open_beneath_fd(int dir_fd, const std::string& name, int flags, mode_t mode) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  for (;;) {
    const int fd = sys::openat2(dir_fd, name.c_str(), how);
    if (fd >= 0) return UniqueFd(fd);
    if (errno != EINTR && errno != EAGAIN) return Error::from_errno(errno, "open " + name);
  }
}

struct CloseDir {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

// Calls `visit` with every name in the folder but "." and "..".
Status each_name(UniqueFd folder, const std::function<void(int, const char*)>& visit) {
  const std::unique_ptr<DIR, CloseDir> dir(sys::fdopendir(folder.get()));
  if (dir == nullptr) return Error::from_errno(errno, "read a folder of the store");
  folder.release();
  for (;;) {
    errno = 0;
    const dirent* entry = sys::readdir(dir.get());
    if (entry == nullptr) {
      if (errno != 0) return Error::from_errno(errno, "read a folder of the store");
      return {};
    }
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") visit(::dirfd(dir.get()), entry->d_name);
  }
}

Status check_root(int fd, const std::filesystem::path& root) {
  struct stat st {};
  if (sys::fstat(fd, &st) != 0) return Error::from_errno(errno, "stat " + root.string());
  if (st.st_uid != ::geteuid() || (st.st_mode & 077) != 0) {
    return Error(Errc::kFailedPrecondition,
                 "store " + root.string() +
                     ": must belong to this user and be closed to all others; try chown and "
                     "chmod 0700");
  }
  struct stat parent {};
  if (sys::fstatat(fd, "..", &parent, 0) != 0) {
    return Error::from_errno(errno, "stat the parent of " + root.string());
  }
  if ((parent.st_mode & 022) != 0 && (parent.st_mode & S_ISVTX) == 0) {
    return Error(Errc::kFailedPrecondition,
                 "store " + root.string() +
                     ": others may rename it, because they may write to its parent; try chmod "
                     "go-w on the parent");
  }
  return {};
}

std::string object_name(const cdc::ObjectId& id) {
  return id.hex();
}

std::uint64_t allocated_bytes(const struct stat& st) {
  return static_cast<std::uint64_t>(st.st_blocks) * 512;
}

Layout::ObjectFile describe(const cdc::ObjectId& id, const struct stat& st) {
  return {.id = id,
          .size = static_cast<std::uint64_t>(st.st_size),
          .allocated = allocated_bytes(st),
          .is_public = is_public(st.st_mode),
          .mode = st.st_mode,
          .device = st.st_dev,
          .inode = st.st_ino};
}

// Descriptors that leave the process enough for everything else.
bool may_keep_folders() {
  constexpr rlim_t kEnough = 4096;
  rlimit limit{};
  return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur >= kEnough;
}

}  // namespace

// Saves opening and closing two folders for each new object. They stay open until the layout goes.
class Layout::Folders {
 public:
  Folders() {
    for (auto& fd : fds_) fd = -1;
  }
  Folders(const Folders&) = delete;
  Folders& operator=(const Folders&) = delete;
  ~Folders() {
    for (auto& fd : fds_) const UniqueFd closed(fd.load());
  }

  int find(Place place, const cdc::ObjectId& id) const { return fds_[number(place, id)]; }
  Folder keep(Place place, const cdc::ObjectId& id, UniqueFd fd) {
    if (!enabled_) return {fd.get(), std::move(fd)};
    int none = -1;
    // Somebody else may have been first.
    if (!fds_[number(place, id)].compare_exchange_strong(none, fd.get())) return {none, {}};
    return {fd.release(), {}};
  }

 private:
  static std::size_t number(Place place, const cdc::ObjectId& id) {
    return (place == Place::kObjects ? 0 : 256) + std::to_integer<std::size_t>(id.bytes()[0]);
  }

  const bool enabled_ = may_keep_folders();
  std::array<std::atomic<int>, 512> fds_;  // -1: not open
};

Layout::Layout() : folders_(std::make_unique<Folders>()) {}
Layout::Layout(Layout&&) noexcept = default;
Layout::~Layout() = default;

Result<Layout> Layout::open(const std::filesystem::path& root, bool lock) {
  Layout layout;
  layout.root_ = root;
  if (lock && sys::mkdirat(AT_FDCWD, root.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error::from_errno(errno, "create store " + root.string());
  }
  auto fd = open_file(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd && (fd.error().sys_errno() == ELOOP || fd.error().sys_errno() == ENOTDIR)) {
    return Error(Errc::kFailedPrecondition,
                 "store " + root.string() + ": must be a directory, not a file or a symlink");
  }
  if (!fd) return fd.error().with_context("store");
  layout.root_fd_ = std::move(*fd);
  IMSY_TRY(check_root(layout.root_fd_.get(), root));
  if (lock) {
    IMSY_TRY(layout.take_lock());
    for (const char* name : {"objects", "partial", kManifests, kTrash})
      IMSY_TRY(layout.make_folder(name));
    IMSY_TRY(layout.sync_root());
  }
  return layout;
}

Status Layout::take_lock() {
  IMSY_TRY_ASSIGN(lock_, open_beneath("lock", O_RDWR | O_CREAT, 0600));
  if (sys::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Error::from_errno(errno, "lock " + root_.string());
    char text[32] = {};
    const ssize_t got = sys::pread(lock_.get(), text, sizeof text - 1, 0);
    std::string holder = got > 0 ? text : "";
    holder = holder.substr(0, holder.find_first_not_of("0123456789"));
    return Error(Errc::kUnavailable, "store " + root_.string() + " is in use by process " +
                                         (holder.empty() ? "(unknown)" : holder));
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (sys::ftruncate(lock_.get(), 0) != 0) return Error::from_errno(errno, "write the lock");
  return pwrite_all(lock_.get(), as_bytes(pid), 0);
}

Status Layout::make_folder(const char* name) const {
  if (sys::mkdirat(root_fd_.get(), name, 0700) != 0 && errno != EEXIST) {
    return Error::from_errno(errno, "create " + (root_ / name).string());
  }
  const auto folder = open_beneath(name, O_PATH | O_DIRECTORY);
  if (!folder) {
    return Error(Errc::kFailedPrecondition,
                 (root_ / name).string() + " must be a directory; remove what stands there");
  }
  return {};
}

Result<UniqueFd> Layout::open_beneath(const std::string& name, int flags, mode_t mode) const {
  return open_beneath_fd(root_fd_.get(), name, flags, mode);
}

Result<Layout::Folder> Layout::open_folder(Place place, const cdc::ObjectId& id,
                                           bool create) const {
  if (const int kept = folders_->find(place, id); kept >= 0) return Folder{kept, {}};
  const std::string number = object_name(id).substr(0, 2);
  const std::string name = std::string(folder_name(place)) + "/" + number;
  auto folder = open_beneath(name, O_PATH | O_DIRECTORY);
  if (!folder && create && folder.error().sys_errno() == ENOENT) {
    IMSY_TRY_ASSIGN(const auto above, open_beneath(folder_name(place), O_PATH | O_DIRECTORY));
    if (sys::mkdirat(above.get(), number.c_str(), 0700) != 0 && errno != EEXIST) {
      return Error::from_errno(errno, "create " + (root_ / name).string());
    }
    folder = open_beneath(name, O_PATH | O_DIRECTORY);
  }
  if (!folder) return folder.error();
  return folders_->keep(place, id, std::move(*folder));
}

Result<UniqueFd> Layout::open_object(Place place, const cdc::ObjectId& id, int access) const {
  IMSY_TRY_ASSIGN(const auto folder, open_folder(place, id, /*create=*/false));
  const std::string name = object_name(id);
  auto fd = open_beneath_fd(folder.fd, name, access | O_NONBLOCK | O_NOCTTY, 0);
  bool foreign = false;
  if (fd) {
    struct stat st {};
    if (sys::fstat(fd->get(), &st) != 0) return Error::from_errno(errno, "stat object " + name);
    if (S_ISREG(st.st_mode)) return fd;
    foreign = true;
  } else {
    // A symlink, a directory opened for writing, a fifo without a reader or a socket.
    const int err = fd.error().sys_errno();
    foreign = err == ELOOP || err == EISDIR || err == ENXIO;
  }
  if (!foreign) return fd;
  log::warn("store {}: {}/{}/{} is no regular file, removing it", root_.string(),
            folder_name(place), name.substr(0, 2), name);
  IMSY_TRY(remove_object(place, id));
  return Error(Errc::kNotFound, "no object " + name);
}

Result<UniqueFd> Layout::create_empty(const cdc::ObjectId& id) const {
  IMSY_TRY_ASSIGN(const auto folder, open_folder(Place::kPartial, id, /*create=*/true));
  const auto create = [&] {
    return open_beneath_fd(folder.fd, object_name(id), O_RDWR | O_CREAT | O_EXCL, 0600);
  };
  auto fd = create();
  if (fd || fd.error().sys_errno() != EEXIST) return fd;
  IMSY_TRY(remove_object(Place::kPartial, id));
  return create();
}

Result<UniqueFd> Layout::create_partial(const cdc::ObjectId& id, std::uint64_t size,
                                        bool is_public) const {
  IMSY_TRY_ASSIGN(UniqueFd fd, create_empty(id));
  // Whatever the umask is.
  if (is_public) sys::fchmod(fd.get(), object_mode(Place::kPartial, is_public));
  if (sys::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    const Error error = Error::from_errno(errno, "set the size of object " + object_name(id));
    ignore(remove_object(Place::kPartial, id), "who opens it finds its size");
    return error;
  }
  return fd;
}

Status Layout::try_room(std::uint64_t bytes) const {
  const auto unknown = [](int err) { return err == EOPNOTSUPP || err == EISDIR || err == ENOSYS; };
  const auto file = open_beneath(folder_name(Place::kPartial), O_TMPFILE | O_WRONLY, 0600);
  // A file system that cannot try says no when it is written to.
  if (!file && unknown(file.error().sys_errno())) return {};
  if (!file) return file.error();
  if (sys::fallocate(file->get(), 0, 0, static_cast<off_t>(bytes)) == 0 || unknown(errno))
    return {};
  return Error::from_errno(errno, "find room for " + std::to_string(bytes) + " bytes");
}

Status Layout::move_object(const cdc::ObjectId& id, Place to) const {
  const Place from = to == Place::kObjects ? Place::kPartial : Place::kObjects;
  IMSY_TRY_ASSIGN(const auto source, open_folder(from, id, /*create=*/false));
  IMSY_TRY_ASSIGN(const auto target, open_folder(to, id, /*create=*/true));
  const std::string name = object_name(id);
  if (sys::renameat(source.fd, name.c_str(), target.fd, name.c_str()) != 0) {
    return Error::from_errno(errno, "move object " + name + " to " + folder_name(to));
  }
  return {};
}

Status Layout::remove_object(Place place, const cdc::ObjectId& id) const {
  const auto folder = open_folder(place, id, /*create=*/false);
  if (!folder && folder.error().code() == Errc::kNotFound) return {};
  if (!folder) return folder.error();
  const std::string name = object_name(id);
  if (sys::unlinkat(folder->fd, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno == EISDIR && sys::unlinkat(folder->fd, name.c_str(), AT_REMOVEDIR) == 0) return {};
  return Error::from_errno(errno, "remove " + std::string(folder_name(place)) + "/" + name);
}

Result<std::uint64_t> Layout::discard_object(const cdc::ObjectId& id, Discard how) const {
  const std::string name = object_name(id);
  const auto trash = open_beneath(kTrash, O_PATH | O_DIRECTORY);
  std::uint64_t bytes = 0;
  for (const Place place : {Place::kObjects, Place::kPartial}) {
    const auto file = look_at(place, id);
    if (!file && file.error().code() == Errc::kNotFound) continue;
    if (!file) return file.error();
    IMSY_TRY_ASSIGN(const auto folder, open_folder(place, id, /*create=*/false));
    const bool moved = how == Discard::kToTrash && trash &&
                       sys::renameat(folder.fd, name.c_str(), trash->get(), name.c_str()) == 0;
    if (!moved) IMSY_TRY(remove_object(place, id));
    bytes += place == Place::kObjects ? file->size : file->allocated;
  }
  return bytes;
}

Status Layout::each_in_trash(const std::function<void(std::uint64_t)>& visit) const {
  IMSY_TRY_ASSIGN(auto folder, open_beneath(kTrash, O_RDONLY | O_DIRECTORY));
  return each_name(std::move(folder), [&](int fd, const char* name) {
    struct stat st {};
    if (sys::fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) visit(allocated_bytes(st));
  });
}

Status Layout::empty_trash() const {
  IMSY_TRY_ASSIGN(auto folder, open_beneath(kTrash, O_RDONLY | O_DIRECTORY));
  Status emptied;
  IMSY_TRY(each_name(std::move(folder), [&](int fd, const char* name) {
    if (sys::unlinkat(fd, name, 0) != 0) emptied = Error::from_errno(errno, "empty the trash");
  }));
  return emptied;
}

Result<Layout::FreeSpace> Layout::free_space() const {
  struct statvfs st {};
  if (sys::fstatvfs(root_fd_.get(), &st) != 0) {
    return Error::from_errno(errno, "statvfs of " + root_.string());
  }
  return FreeSpace{.bytes = std::uint64_t{st.f_blocks} * st.f_frsize,
                   .free_bytes = std::uint64_t{st.f_bavail} * st.f_frsize,
                   .files = st.f_files,
                   .free_files = st.f_favail};
}

Status Layout::each_object(Place place, const std::function<void(const ObjectFile&)>& visit) const {
  for (unsigned folder = 0; folder < kFolders; ++folder) {
    IMSY_TRY(each_in_folder(place, folder, [&](const ObjectFile& file) {
      if (S_ISREG(file.mode)) visit(file);
    }));
  }
  return {};
}

Status Layout::each_in_folder(Place place, unsigned folder,
                              const std::function<void(const ObjectFile&)>& visit) const {
  static constexpr char kDigits[] = "0123456789abcdef";
  const std::string hex{kDigits[folder / 16], kDigits[folder % 16]};
  auto opened = open_beneath(std::string(folder_name(place)) + "/" + hex, O_RDONLY | O_DIRECTORY);
  if (!opened && opened.error().code() == Errc::kNotFound) return {};  // not made yet
  if (!opened) return opened.error();
  Status seen;
  IMSY_TRY(each_name(std::move(*opened), [&](int fd, const char* name) {
    const auto id = Digest::parse_hex(name);
    struct stat st {};
    if (!id || std::string_view(name).substr(0, 2) != hex) return;
    if (sys::fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
      visit(describe(*id, st));
    } else if (errno != ENOENT) {
      seen = Error::from_errno(errno, "look at " + std::string(name));
    }
  }));
  return seen;
}

Result<Layout::ObjectFile> Layout::look_at(Place place, const cdc::ObjectId& id) const {
  IMSY_TRY_ASSIGN(const auto folder, open_folder(place, id, /*create=*/false));
  const std::string name = object_name(id);
  struct stat st {};
  if (sys::fstatat(folder.fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    return Error::from_errno(errno, "look at " + std::string(folder_name(place)) + "/" + name);
  }
  return describe(id, st);
}

Status Layout::write_manifest(const Digest& manifest, ByteSpan data) const {
  IMSY_TRY_ASSIGN(const auto folder, open_beneath(kManifests, O_RDONLY | O_DIRECTORY));
  const std::string name = manifest.hex();
  const std::string temporary = "." + name;  // one writer at a time: the store's image lock
  IMSY_TRY_ASSIGN(const auto fd,
                  open_beneath_fd(folder.get(), temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600));
  Status written = write_all(fd.get(), data);
  if (written && sys::fdatasync(fd.get()) != 0) written = Error::from_errno(errno, "fdatasync");
  if (written && sys::renameat(folder.get(), temporary.c_str(), folder.get(), name.c_str()) != 0) {
    written = Error::from_errno(errno, "rename");
  }
  if (!written) {
    sys::unlinkat(folder.get(), temporary.c_str(), 0);
    return written.error().with_context("keep manifest " + manifest.to_string());
  }
  if (sys::fsync(folder.get()) != 0) return Error::from_errno(errno, "fsync manifests");
  return {};
}

Result<Bytes> Layout::read_manifest(const Digest& manifest, std::uint64_t limit) const {
  auto fd = open_beneath(std::string(kManifests) + "/" + manifest.hex(), O_RDONLY | O_NONBLOCK);
  if (!fd) return fd.error();
  IMSY_TRY_ASSIGN(const auto size, file_size(fd->get()));
  if (size > limit) {
    return Error(Errc::kCorrupt, "manifest " + manifest.to_string() + ": the file is too large");
  }
  Bytes data(size);
  IMSY_TRY(pread_all(fd->get(), data, 0));
  return data;
}

Status Layout::remove_manifest(const Digest& manifest) const {
  IMSY_TRY_ASSIGN(const auto folder, open_beneath(kManifests, O_RDONLY | O_DIRECTORY));
  if (sys::unlinkat(folder.get(), manifest.hex().c_str(), 0) != 0 && errno != ENOENT) {
    return Error::from_errno(errno, "remove manifest " + manifest.to_string());
  }
  if (sys::fsync(folder.get()) != 0) return Error::from_errno(errno, "fsync manifests");
  return {};
}

Result<std::vector<Digest>> Layout::manifests() const {
  IMSY_TRY_ASSIGN(auto folder, open_beneath(kManifests, O_RDONLY | O_DIRECTORY));
  std::vector<Digest> found;
  IMSY_TRY(each_name(std::move(folder), [&](int fd, const char* name) {
    if (name[0] == '.') sys::unlinkat(fd, name, 0);
    if (const auto digest = Digest::parse_hex(name)) found.push_back(*digest);
  }));
  return found;
}

Status Layout::sync() const {
  if (sys::syncfs(root_fd_.get()) != 0) {
    return Error::from_errno(errno, "syncfs of " + root_.string());
  }
  return {};
}

Status Layout::sync_root() const {
  if (sys::fsync(root_fd_.get()) != 0) return Error::from_errno(errno, "fsync " + root_.string());
  return {};
}

Result<std::string> Layout::set_index_aside() const {
  std::string name;
  for (int n = 1; n <= kBrokenKept; ++n) {
    name = "index.db.broken-" + std::to_string(n);
    if (sys::faccessat(root_fd_.get(), name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) != 0) break;
  }
  if (sys::renameat(root_fd_.get(), "index.db", root_fd_.get(), name.c_str()) != 0) {
    if (errno != ENOENT) return Error::from_errno(errno, "set the broken index aside");
    name.clear();
  }
  // A log that is not in the database belongs to nothing now, and would spoil a new database.
  for (const char* rest : {"index.db-wal", "index.db-shm"}) {
    if (sys::unlinkat(root_fd_.get(), rest, 0) != 0 && errno != ENOENT) {
      return Error::from_errno(errno, std::string("remove ") + rest);
    }
  }
  sys::unlinkat(root_fd_.get(), kBrokenMark, 0);
  IMSY_TRY(sync_root());
  return name;
}

void Layout::mark_index_broken() const {
  ignore(open_beneath(kBrokenMark, O_WRONLY | O_CREAT, 0600),
         "the next start may still find the fault by itself");
}

bool Layout::index_marked_broken() const {
  return sys::faccessat(root_fd_.get(), kBrokenMark, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

}  // namespace imsy::cas
