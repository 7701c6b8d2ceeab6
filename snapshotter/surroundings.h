// What this machine and its containerd can do for lazy images, and what they keep from being.
//
// Threads: free functions, any thread. They wait for the disk, and where it is said for containerd.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
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

// Whether what is mounted below `directory` stays in a mount namespace of this process alone: its
// mounts follow those of another one, which does not follow back. `mountinfo` as in /proc.
bool hides_mounts(std::string_view mountinfo, const std::filesystem::path& directory);

// containerd's configuration file and, until `deadline`, the containerd that runs. `socket` is
// where we listen.
Surroundings look_at_containerd(const Config& config, const std::filesystem::path& socket,
                                Containerd& containerd, Containerd::Deadline deadline);

}  // namespace imsy::snapshotter
