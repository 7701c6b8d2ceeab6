#include "fuse/mount_table.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "common/log.h"

namespace imsy::fuse {
namespace {

constexpr std::uint64_t kMountinfoLimit = 64u << 20;  // bytes

// Takes the next field, up to a blank, from `line`.
std::string_view next_field(std::string_view& line) {
  const auto end = std::min(line.find(' '), line.size());
  const auto field = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return field;
}

bool is_octal(char c) {
  return c >= '0' && c <= '7';
}

// mountinfo writes blank, tab, newline and backslash as three octal digits behind a backslash.
std::string unescape(std::string_view field) {
  std::string text;
  for (std::size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size() && is_octal(field[i + 1]) &&
        is_octal(field[i + 2]) && is_octal(field[i + 3])) {
      text += static_cast<char>((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 +
                                (field[i + 3] - '0'));
      i += 3;
    } else {
      text += field[i];
    }
  }
  return text;
}

}  // namespace

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  // id parent major:minor root directory options [tag...] - type source super-options
  std::vector<MountEntry> entries;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    MountEntry entry;
    next_field(line);
    next_field(line);
    entry.device = next_field(line);
    entry.root = unescape(next_field(line));
    entry.directory = unescape(next_field(line));
    while (!line.empty() && next_field(line) != "-") {
    }
    entry.type = unescape(next_field(line));
    if (!entry.type.empty()) entries.push_back(std::move(entry));
  }
  return entries;
}

Result<std::vector<MountEntry>> mounts_at(const std::filesystem::path& directory) {
  IMSY_TRY_ASSIGN(const Bytes text, read_file("/proc/self/mountinfo", kMountinfoLimit));
  auto entries = parse_mountinfo(as_text(text));
  std::erase_if(entries, [&](const MountEntry& e) { return e.directory != directory.native(); });
  return entries;
}

Result<std::filesystem::path> mount_path(const std::filesystem::path& directory) {
  std::error_code error;
  auto absolute = std::filesystem::absolute(directory, error).lexically_normal();
  if (!error && !absolute.has_filename()) absolute = absolute.parent_path();
  auto parent = error ? absolute : std::filesystem::canonical(absolute.parent_path(), error);
  if (error) return Error::from_errno(error.value(), "mount at " + directory.string());
  if (!absolute.has_filename()) {
    return Error(Errc::kInvalid, "mount at " + directory.string() + ": choose a directory below /");
  }
  return parent / absolute.filename();
}

Status detach_dead_mounts(const std::filesystem::path& directory) {
  for (;;) {
    IMSY_TRY_ASSIGN(const auto mounts, mounts_at(directory));
    if (mounts.empty()) return {};
    const std::string where = directory.string();
    if (mounts.back().type != kMountType) {
      return Error(Errc::kFailedPrecondition, where + " has a mount of type " + mounts.back().type +
                                                  ": choose a directory in it");
    }
    struct stat st;
    if (::lstat(directory.c_str(), &st) == 0) {
      return Error(Errc::kFailedPrecondition,
                   where + " has a living imsy mount: another process serves it");
    }
    if (errno != ENOTCONN && errno != ECONNABORTED) {
      return Error::from_errno(errno, "look at the imsy mount at " + where);
    }
    log::warn("detaching a dead imsy mount directory={}", where);
    if (::umount2(directory.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
      return Error::from_errno(errno, "detach the dead mount at " + where);
    }
  }
}

Result<UniqueFd> mount_device(const std::filesystem::path& directory) {
  auto device = open_file("/dev/fuse", O_RDWR | O_NONBLOCK);
  if (!device) {
    const int err = device.error().sys_errno();
    const bool denied = err == EACCES || err == EPERM;
    return Error(
        denied ? Errc::kDenied : Errc::kUnavailable,
        device.error().message() + (denied ? ": run as root" : ": load the kernel module fuse"),
        err);
  }
  const std::string options = "fd=" + std::to_string(device->get()) +
                              ",rootmode=40000,user_id=" + std::to_string(::geteuid()) +
                              ",group_id=" + std::to_string(::getegid()) +
                              ",allow_other,default_permissions";
  if (::mount("imsy", directory.c_str(), kMountType, MS_RDONLY | MS_NOSUID | MS_NODEV,
              options.c_str()) != 0) {
    return Error::from_errno(errno, "mount at " + directory.string());
  }
  return device;
}

Status detach_mount(const std::filesystem::path& directory, const std::string& device) {
  IMSY_TRY_ASSIGN(const auto mounts, mounts_at(directory));
  if (mounts.empty() || mounts.back().device != device) {
    return Error(Errc::kNotFound, "the mount at " + directory.string() + " is not ours any more");
  }
  if (::umount2(directory.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
    return Error::from_errno(errno, "detach the mount at " + directory.string());
  }
  return {};
}

}  // namespace imsy::fuse
