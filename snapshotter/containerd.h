// Containerd: what we ask containerd in return: where an image that it pulls came from, above all.
//
// Only reads, only with short deadlines, and never from Commit or Update, which containerd calls
// inside its own write transaction.
// Threads: all methods from any thread. All wait for another process, until their deadline.
// Source: containerd api/services/content/v1 and images/v1.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/result.h"
#include "snapshotter/types.h"

namespace imsy::snapshotter {

class Containerd {
 public:
  using Deadline = std::chrono::steady_clock::time_point;
  virtual ~Containerd() = default;

  // Labels of a blob in the content store. kNotFound: it is not there. kUnavailable, kTimeout:
  // containerd does not answer.
  virtual Result<Labels> content_labels(const std::string& name_space, const Digest& digest,
                                        Deadline deadline) = 0;
  // A whole blob, which is what its digest says. kInvalid: larger than `limit`.
  virtual Result<std::string> read_content(const std::string& name_space, const Digest& digest,
                                           std::uint64_t limit, Deadline deadline) = 0;
  // The names of the images that have this configuration, directly or through an index.
  virtual Result<std::vector<std::string>> image_names(const std::string& name_space,
                                                       const Digest& config, Deadline deadline) = 0;
  // The labels of the manifests that have this blob as their layer `index` (the bottom one is 0),
  // of sixteen at most.
  virtual Result<std::vector<Labels>> manifests_with_layer(const std::string& name_space,
                                                           const Digest& blob, unsigned index,
                                                           Deadline deadline) = 0;
  // As it says itself: "1.6.20~ds1", "v2.1.4".
  virtual Result<std::string> version(Deadline deadline) = 0;
};

// A client for the socket at `address`; connects when it is first asked. Every call to "" is
// kUnavailable.
std::unique_ptr<Containerd> connect_containerd(const std::string& address);

}  // namespace imsy::snapshotter
