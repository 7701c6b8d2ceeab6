// What the kernel says is mounted, and the mount and unmount of our own filesystem.
//
// Everything here looks at /proc/self/mountinfo, never at the mounted files: those may belong to a
// server that died or hangs.
// Threads: free functions, any thread.
// Source: proc_pid_mountinfo(5), mount(2), linux Documentation/filesystems/fuse.rst.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/io.h"
#include "common/result.h"

namespace imsy::fuse {

inline constexpr const char* kMountType = "fuse.imsy";

struct MountEntry {
  std::string device;  // "major:minor" of the superblock
  std::string directory;
  std::string type;
  std::string root;  // which directory of its file system is shown
  bool operator==(const MountEntry&) const = default;
};

// The entries of a mountinfo text, oldest first. Lines it does not understand are left out.
std::vector<MountEntry> parse_mountinfo(std::string_view text);

// What is mounted at exactly `directory`, the uppermost last.
Result<std::vector<MountEntry>> mounts_at(const std::filesystem::path& directory);

// `directory` as the kernel names it: absolute, with the links in its parents followed. Its last
// component is not touched, because a dead mount may be there. kNotFound: no parent directory.
Result<std::filesystem::path> mount_path(const std::filesystem::path& directory);

// Detaches dead imsy mounts (no process serves them) from `directory`, a mount_path().
// kFailedPrecondition: something else is mounted there, or a live imsy mount.
Status detach_dead_mounts(const std::filesystem::path& directory);

// Mounts a new FUSE connection at `directory` and returns its device. The mount is read-only,
// nosuid and nodev; it ends when all copies of the descriptor are closed. Reading from the
// descriptor never waits.
// kUnavailable: no /dev/fuse. kDenied: not allowed.
Result<UniqueFd> mount_device(const std::filesystem::path& directory);

// Takes the mount away from `directory` at once; who still uses it keeps it.
// kNotFound: the uppermost mount there is not `device`; nothing is changed.
Status detach_mount(const std::filesystem::path& directory, const std::string& device);

}  // namespace imsy::fuse
