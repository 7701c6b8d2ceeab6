// LazyTree: the node's lazy tree at its mount point, also when somebody takes the mount away.
//
// Promises
//   * After ensure() the mount point shows the tree, served by this process.
//   * Who uses a mount that was taken away lazily (umount -l) is served on, beside the new one.
//     Who uses one that was aborted has lost it.
// Threads: all methods from any thread that holds no lock which a request of the kernel may need.
// They wait for the kernel and for requests of this tree, never for the network.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "common/mutex.h"
#include "common/result.h"
#include "fuse/image_fs.h"
#include "fuse/session.h"

namespace imsy::snapshotter {

class LazyTree {
 public:
  // Mounts `fs`, which outlives it, at `directory`, whose parent exists. Errors: as
  // fuse::Session::mount().
  static Result<std::unique_ptr<LazyTree>> mount(fuse::ImageFs& fs,
                                                 const std::filesystem::path& directory);

  // Mounts it again when it is not at its place. kUnavailable: that cannot be done, and why.
  Status ensure();
  // Tells the kernel to forget what it knows of a slot that was removed from the ImageFs.
  void forget_slot(fuse::Slot slot);
  // Whether the mount point shows it.
  bool is_in_place() const;
  // Of all mounts since the start.
  fuse::SessionStats stats() const;

 private:
  LazyTree(fuse::ImageFs& fs, std::filesystem::path directory)
      : fs_(fs), directory_(std::move(directory)) {}
  Status mount_once() IMSY_REQUIRES(mu_);

  // constant after construction
  fuse::ImageFs& fs_;
  const std::filesystem::path directory_;

  mutable Mutex mu_;  // held over mounting and unmounting
  // The last one is at the mount point; those before were taken away and still have users.
  std::vector<std::shared_ptr<fuse::Session>> sessions_ IMSY_GUARDED_BY(mu_);
  fuse::SessionStats ended_ IMSY_GUARDED_BY(mu_);  // of those that are over
};

}  // namespace imsy::snapshotter
