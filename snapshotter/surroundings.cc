#include "snapshotter/surroundings.h"

#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <sstream>

#include "common/io.h"

namespace imsy::snapshotter {
namespace {

constexpr std::uint64_t kProcFileSize = 64 << 10;
constexpr std::uint64_t kConfigSize = 4 << 20;
constexpr std::uint64_t kMountsSize = 64 << 20;
constexpr long kOverlayMagic = 0x794c7630;

bool kernel_has(std::string_view file_system) {
  const auto bytes = read_file("/proc/filesystems", kProcFileSize);
  const std::string line = "\t" + std::string(file_system) + "\n";
  return bytes && as_text(*bytes).find(line) != std::string_view::npos;
}

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

}  // namespace

Surroundings Surroundings::with(const Surroundings& more) const {
  Surroundings all = *this;
  all.facts.insert(all.facts.end(), more.facts.begin(), more.facts.end());
  all.advice.insert(all.advice.end(), more.advice.begin(), more.advice.end());
  return all;
}

bool hides_mounts(std::string_view mountinfo, const std::filesystem::path& directory) {
  // proc_pid_mountinfo(5): the mount point is the fifth field, the propagation stands between the
  // sixth and a lone hyphen. Of nested mounts, and of several at one place, the last line counts.
  std::istringstream lines{std::string(mountinfo)};
  std::size_t longest = 0;
  bool hides = false;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    const std::vector<std::string> fields(std::istream_iterator<std::string>(words), {});
    if (fields.size() < 7) continue;
    const std::string& point = fields[4];
    const std::string below = point == "/" ? point : point + "/";
    if (point.size() < longest || !(directory.string() + "/").starts_with(below)) continue;
    longest = point.size();
    bool gets = false;
    bool gives = false;
    for (std::size_t i = 6; i < fields.size() && fields[i] != "-"; ++i) {
      gets = gets || fields[i].starts_with("master:");
      gives = gives || fields[i].starts_with("shared:");
    }
    hides = gets && !gives;
  }
  return hides;
}

Surroundings look_at_kernel(const Layout& layout) {
  Surroundings seen;
  utsname name = {};
  if (uname(&name) == 0) seen.facts.push_back(std::string("kernel ") + name.release);
  if (!kernel_has("overlay")) {
    seen.advice.push_back(
        {"the kernel has no overlayfs, or its module is not loaded: no container "
         "can start",
         "modprobe overlay"});
  }
  if (::access("/dev/fuse", R_OK | W_OK) != 0) {
    seen.advice.push_back({std::string("/dev/fuse cannot be used (") + std::strerror(errno) +
                               "): imsy images are unpacked like others",
                           "modprobe fuse"});
  }
  look_at_root(layout.root(), seen);
  const auto mounts = read_file("/proc/self/mountinfo", kMountsSize);
  if (mounts && hides_mounts(as_text(*mounts), layout.root())) {
    seen.advice.push_back(
        {"this program runs in a mount namespace of its own: containerd does not "
         "see the lazy tree, and containers get empty root file systems",
         "run it without PrivateTmp, ProtectSystem and the like, and not in a "
         "container"});
  }
  return seen;
}

Surroundings look_at_containerd(const Config& config, const std::filesystem::path& socket,
                                Containerd& containerd, Containerd::Deadline deadline) {
  Surroundings seen;
  std::string version;
  if (!config.containerd_address.empty()) {
    const auto answer = containerd.version(deadline);
    if (answer) {
      version = *answer;
      seen.facts.push_back("containerd " + version + " at " + config.containerd_address);
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
