#include "snapshotter/surroundings.h"

#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/io.h"
#include "fuse/mount_table.h"
#include "snapshotter/socket.h"

namespace imsy::snapshotter {
namespace {

constexpr std::uint64_t kConfigSize = 4 << 20;
constexpr std::uint64_t kMountsSize = 64 << 20;
constexpr long kOverlayMagic = 0x794c7630;

// What overlayfs asks of the file system of an upper directory.
void look_at_root(const std::filesystem::path& directory, Surroundings& seen) {
  struct statfs fs = {};
  if (statfs(directory.c_str(), &fs) == 0 && fs.f_type == kOverlayMagic) {
    seen.advice.push_back({directory.string() + " lies on overlayfs, which cannot hold what "
                                                "containers write",
                           "put --root on ext4, XFS or Btrfs"});
    return;
  }
  std::string probe = directory / "probe-XXXXXX";
  if (::mkdtemp(probe.data()) == nullptr) return;  // a full disk, for one, is no answer
  if (::setxattr(probe.c_str(), "trusted.overlay.opaque", "y", 1, 0) != 0 && errno != ENOSPC) {
    seen.advice.push_back({directory.string() + " has no trusted attributes (" +
                               std::strerror(errno) + "), which containers need",
                           "put --root on ext4, XFS or Btrfs"});
  }
  ::rmdir(probe.c_str());
}

bool has_lazy_tree(std::string_view mountinfo, const std::filesystem::path& directory) {
  const auto mounts = fuse::parse_mountinfo(mountinfo);
  return std::ranges::any_of(mounts, [&](const fuse::MountEntry& mount) {
    return mount.directory == directory.string() && mount.type == fuse::kMountType;
  });
}

// Whether containerd sees the lazy tree; it does not from another mount namespace.
void look_at_its_mounts(const std::string& socket, const std::filesystem::path& lazy_tree,
                        Surroundings& seen) {
  const pid_t pid = listener_of(socket);
  if (pid <= 0) return;
  const auto ours = read_file("/proc/self/mountinfo", kMountsSize);
  const auto its = read_file("/proc/" + std::to_string(pid) + "/mountinfo", kMountsSize);
  if (!ours || !its || !has_lazy_tree(as_text(*ours), lazy_tree)) return;
  if (has_lazy_tree(as_text(*its), lazy_tree)) return;
  seen.advice.push_back(
      {"containerd (pid " + std::to_string(pid) + ") does not see what is mounted at " +
           lazy_tree.string() + ": containers of lazy images get empty root file systems",
       "run both in one mount namespace: without PrivateTmp, ProtectSystem and the like, and not "
       "in a container"});
}

}  // namespace

Surroundings Surroundings::with(const Surroundings& more) const {
  Surroundings all = *this;
  all.facts.insert(all.facts.end(), more.facts.begin(), more.facts.end());
  all.advice.insert(all.advice.end(), more.advice.begin(), more.advice.end());
  return all;
}

Surroundings look_at_kernel(const Layout& layout) {
  Surroundings seen;
  utsname name = {};
  if (uname(&name) == 0) seen.facts.push_back(std::string("kernel ") + name.release);
  if (::access("/dev/fuse", R_OK | W_OK) != 0) {
    seen.advice.push_back({std::string("/dev/fuse cannot be used (") + std::strerror(errno) +
                               "): imsy images are unpacked like others",
                           "modprobe fuse"});
  }
  look_at_root(layout.root(), seen);
  return seen;
}

Surroundings look_at_containerd(const Config& config, const std::filesystem::path& socket,
                                const std::filesystem::path& lazy_tree, Containerd& containerd,
                                Containerd::Deadline deadline) {
  Surroundings seen;
  std::string version;
  if (!config.containerd_address.empty()) {
    const auto answer = containerd.version(deadline);
    if (answer) {
      version = *answer;
      seen.facts.push_back("containerd " + version + " at " + config.containerd_address);
      look_at_its_mounts(config.containerd_address, lazy_tree, seen);
    } else {
      seen.facts.push_back("no answer from " + config.containerd_address + ": " +
                           answer.error().message());
    }
  }
  const std::filesystem::path& file = config.containerd_config;
  if (file.empty()) return seen;
  const auto bytes = read_file(file, kConfigSize);
  if (!bytes && bytes.error().code() == Errc::kNotFound) {
    seen.advice.push_back({"containerd has no configuration at " + file.string() +
                               ", so that it does not know this snapshotter",
                           "make one, as in examples/containerd, or set containerd_config"});
    return seen;
  }
  const auto parsed = bytes ? parse_containerd_config(as_text(*bytes), file.string())
                            : Result<ContainerdConfig>(bytes.error());
  if (!parsed) {
    seen.facts.push_back("containerd's configuration is not looked at: " +
                         parsed.error().message());
    return seen;
  }
  if (parsed->has_imports) {
    seen.facts.push_back(file.string() + " imports other files, which are not looked at");
  }
  for (Advice& advice : advise(*parsed, socket, version)) {
    advice.remedy += " (" + file.string() + ")";
    seen.advice.push_back(std::move(advice));
  }
  return seen;
}

}  // namespace imsy::snapshotter
