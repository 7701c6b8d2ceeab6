// mount: an image's tree in a directory, lazily, without containerd and without imsy-snapshotter.
//
// What is read is fetched into a store of the mount's own, which goes with it unless somebody keeps
// it. Who serves the mount is this process: when it dies, the mount is dead.
// Threads: one, beside those of the mount.
#pragma once

#include <filesystem>
#include <functional>
#include <stop_token>

#include "converter/proved_image.h"
#include "oci/repository.h"

namespace imsy::cli::image {

struct MountOptions {
  std::filesystem::path directory;
  std::filesystem::path store;      // kept; "": one below `temporary`, which is removed at the end
  std::filesystem::path temporary;  // exists
  std::function<void()> mounted = [] {};  // called when the tree can be read
};

// Serves the tree of `image`, which is one of `source`, until it is unmounted and nobody uses it
// any more, or until a stop is requested, which takes it away from `directory` at once. Waits for
// disk and network. kInvalid: not a directory. kUnavailable: no /dev/fuse, or another process has
// the store. kDenied: not allowed to mount.
Status mount_image(oci::ImageSource& source, const converter::ProvedImage& image,
                   const MountOptions& options, const std::stop_token& stop);

// Takes away what mount_image() mounted at `directory`. kNotFound: nothing of that kind is there.
// kFailedPrecondition: it is in use; `lazily`, who uses it keeps it.
Status unmount_image(const std::filesystem::path& directory, bool lazily);

}  // namespace imsy::cli::image
