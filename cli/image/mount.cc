#include "cli/image/mount.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "cas/fetcher.h"
#include "cas/source/part_source.h"
#include "cas/store.h"
#include "common/io.h"
#include "common/log.h"
#include "fuse/image_fs.h"
#include "fuse/mount_table.h"
#include "fuse/session.h"

namespace imsy::cli::image {
namespace {

constexpr fuse::Slot kTheSlot = 1;
constexpr unsigned kRequestsAtOnce = 8;
constexpr std::chrono::milliseconds kLookEvery{200};

// A directory of its own that goes with it, whatever is in it.
class ScratchDirectory {
 public:
  static Result<ScratchDirectory> make(const std::filesystem::path& parent) {
    std::string name = (parent / "imsy-mount-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) return Error::from_errno(errno, "make " + name);
    return ScratchDirectory(name);
  }
  ~ScratchDirectory() {
    if (path_.empty()) return;
    std::error_code error;
    std::filesystem::remove_all(path_, error);
    if (error) log::warn("cannot remove {}: {}", path_.string(), error.message());
  }
  ScratchDirectory(ScratchDirectory&& other) noexcept
      : path_(std::exchange(other.path_, std::filesystem::path())) {}
  ScratchDirectory& operator=(ScratchDirectory&&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit ScratchDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

Result<std::filesystem::path> make_below(const std::filesystem::path& parent, const char* name) {
  const auto path = parent / name;
  if (::mkdir(path.c_str(), 0700) != 0) return Error::from_errno(errno, "make " + path.string());
  return path;
}

// The tree of the one image at `directory`, rather than the root of all images. It is the only
// place where the file system stays, which so ends when it is taken away from there.
Status show_at(const std::filesystem::path& directory, const std::filesystem::path& mounted) {
  const auto tree = mounted / std::to_string(kTheSlot);
  if (::mount(tree.c_str(), directory.c_str(), nullptr, MS_BIND, nullptr) != 0) {
    return Error::from_errno(errno, "mount at " + directory.string());
  }
  if (::umount2(mounted.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) return {};
  const Error failed = Error::from_errno(errno, "unmount " + mounted.string());
  ::umount2(directory.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
  return failed;
}

// The uppermost mount of `directory`, if mount_image() made it: no other shows a part of a tree.
Result<fuse::MountEntry> image_at(const std::filesystem::path& directory) {
  IMSY_TRY_ASSIGN(auto mounts, fuse::mounts_at(directory));
  const bool ours =
      !mounts.empty() && mounts.back().type == fuse::kMountType && mounts.back().root != "/";
  if (ours) return std::move(mounts.back());
  return Error(Errc::kNotFound, directory.string() + ": no image is mounted there");
}

cas::FetcherOptions fetcher_options() {
  cas::FetcherOptions options;
  options.requests_per_host = kRequestsAtOnce;
  const std::chrono::milliseconds limit = fuse::kernel_request_timeout();
  if (limit.count() != 0) options.deadline = std::min(options.deadline, limit / 2);
  return options;
}

void wait_until_over(const fuse::Session& session, const std::stop_token& stop) {
  std::mutex mu;
  std::condition_variable_any never;
  std::unique_lock lock(mu);
  while (!stop.stop_requested() && !session.is_over()) {
    never.wait_for(lock, stop, kLookEvery, [] { return false; });
  }
}

}  // namespace

Status mount_image(oci::ImageSource& source, const converter::ProvedImage& image,
                   const MountOptions& options, const std::stop_token& stop) {
  if (!std::filesystem::is_directory(options.directory)) {
    return Error(Errc::kInvalid, options.directory.string() + ": not a directory");
  }
  IMSY_TRY_ASSIGN(const auto directory, fuse::mount_path(options.directory));
  IMSY_TRY_ASSIGN(const auto scratch, ScratchDirectory::make(options.temporary));
  const auto store_path = options.store.empty() ? scratch.path() / "store" : options.store;
  IMSY_TRY_ASSIGN(const auto mounted, make_below(scratch.path(), "mnt"));
  IMSY_TRY_ASSIGN(const auto store, cas::Store::open(store_path));
  const bool parallel = dynamic_cast<oci::Repository*>(&source) != nullptr;
  const auto place = cas::make_part_source(source, parallel ? kRequestsAtOnce : 1);
  fuse::ImageFs fs;
  const auto fetcher = cas::Fetcher::create(*store, fetcher_options());
  IMSY_TRY(fs.add(kTheSlot, fetcher->attach(image.manifest, image.anchor, {place}, "")));
  Status outcome;
  {
    IMSY_TRY_ASSIGN(const auto session, fuse::Session::mount(fs, mounted));
    IMSY_TRY(show_at(directory, mounted));
    IMSY_TRY_ASSIGN(const auto entry, image_at(directory));
    options.mounted();
    wait_until_over(*session, stop);
    // Nobody's any more when it was unmounted and something else is there now.
    const Status detached = fuse::detach_mount(directory, entry.device);
    if (!detached && detached.error().code() != Errc::kNotFound) outcome = detached;
  }
  fs.remove(kTheSlot);
  return outcome;
}

Status unmount_image(const std::filesystem::path& directory, bool lazily) {
  IMSY_TRY_ASSIGN(const auto path, fuse::mount_path(directory));
  IMSY_TRY_ASSIGN(const auto entry, image_at(path));
  if (lazily) return fuse::detach_mount(path, entry.device);
  if (::umount2(path.c_str(), UMOUNT_NOFOLLOW) == 0) return {};
  if (errno == EBUSY) {
    return Error(Errc::kFailedPrecondition,
                 path.string() +
                     ": in use; end what uses it, or give --lazy, with which who uses"
                     " it keeps it");
  }
  return Error::from_errno(errno, "unmount " + path.string());
}

}  // namespace imsy::cli::image
