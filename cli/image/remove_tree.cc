#include "cli/image/remove_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "common/io.h"
#include "common/log.h"

namespace imsy::cli::image {
namespace {

Error failed(const char* what, const std::string& name) {
  return Error::from_errno(errno, what + log::printable(name));
}

// A directory, after its owner was given all permissions. "/proc" names it for certain.
Result<UniqueFd> open_up(int parent, const std::string& name) {
  IMSY_TRY_ASSIGN(const UniqueFd handle,
                  open_file_at(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  const std::string place = "/proc/self/fd/" + std::to_string(handle.get());
  if (::chmod(place.c_str(), 0700) != 0) return failed("chmod ", name);
  return open_file_at(handle.get(), ".", O_RDONLY | O_DIRECTORY);
}

// Calls `take` for each name in `directory`, which takes it away from there, until none is left.
template <typename Take>
Status drain(UniqueFd directory, Take take) {
  const std::unique_ptr<DIR, int (*)(DIR*)> names(::fdopendir(directory.get()), ::closedir);
  if (names == nullptr) return Error::from_errno(errno, "fdopendir");
  const int fd = directory.release();  // closed with `names`
  // A directory that changes while it is read may leave out names.
  for (bool found = true; found;) {
    found = false;
    ::rewinddir(names.get());
    errno = 0;
    while (const dirent* entry = ::readdir(names.get())) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      found = true;
      IMSY_TRY(take(fd, name));
      errno = 0;
    }
    if (errno != 0) return Error::from_errno(errno, "read a directory");
  }
  return {};
}

// Removes directories by lifting what they hold into the top one: so the tree has one level only.
class Remover {
 public:
  Status take(int top, const std::string& name) {
    IMSY_TRY_ASSIGN(const bool removed, remove_file(top, name));
    if (removed) return {};
    IMSY_TRY_ASSIGN(UniqueFd directory, open_up(top, name));
    IMSY_TRY(drain(std::move(directory), [&](int inside, const std::string& child) -> Status {
      IMSY_TRY_ASSIGN(const bool gone, remove_file(inside, child));
      return gone ? Status() : lift(inside, child, top);
    }));
    return ::unlinkat(top, name.c_str(), AT_REMOVEDIR) == 0 ? Status()
                                                            : Status(failed("rmdir ", name));
  }

 private:
  // False for a directory.
  static Result<bool> remove_file(int directory, const std::string& name) {
    if (::unlinkat(directory, name.c_str(), 0) == 0) return true;
    if (errno == EISDIR) return false;
    return failed("remove ", name);
  }

  // Under a number that no name of the tree is.
  Status lift(int directory, const std::string& name, int top) {
    IMSY_TRY(open_up(directory, name));  // what is moved must be writable
    for (;;) {
      const std::string number = std::to_string(next_++);
      if (::renameat(directory, name.c_str(), top, number.c_str()) == 0) return {};
      if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR) return failed("move ", name);
    }
  }

  std::uint64_t next_ = 0;
};

}  // namespace

Status remove_tree(const std::filesystem::path& directory) {
  IMSY_TRY_ASSIGN(UniqueFd top, open_up(AT_FDCWD, directory.string()));
  Remover remover;
  IMSY_TRY(drain(std::move(top),
                 [&](int fd, const std::string& name) { return remover.take(fd, name); }));
  return ::rmdir(directory.c_str()) == 0 ? Status() : Status(failed("rmdir ", directory.string()));
}

}  // namespace imsy::cli::image
