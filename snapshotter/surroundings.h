// What this machine and its containerd can do for lazy images, and what they keep from being.
//
// Threads: free functions, any thread. They wait for the disk, and where it is said for containerd.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "snapshotter/config.h"
#include "snapshotter/containerd.h"
#include "snapshotter/containerd_config.h"
#include "snapshotter/layout.h"

namespace imsy::snapshotter {

struct Surroundings {
  std::vector<std::string> facts;
  std::vector<Advice> advice;

  // These, and then those.
  Surroundings with(const Surroundings& more) const;
};

// The kernel, and the file system of our root, where it makes and removes a file.
Surroundings look_at_kernel(const Layout& layout);

// containerd's configuration file and, until `deadline`, the containerd that runs. `socket` is
// where we listen, `lazy_tree` where the lazy tree is mounted, if it is.
Surroundings look_at_containerd(const Config& config, const std::filesystem::path& socket,
                                const std::filesystem::path& lazy_tree, Containerd& containerd,
                                Containerd::Deadline deadline);

}  // namespace imsy::snapshotter
