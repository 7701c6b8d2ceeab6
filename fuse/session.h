// Session: an ImageFs as a mounted filesystem.
//
// Promises
//   * Mounted read-only with nosuid, nodev, allow_other and default_permissions; visible to all who
//     can reach the directory.
//   * Every request is answered exactly once, with EIO when all else fails. Each EIO is logged with
//     file, object and reason (rate-limited), and counted.
//   * An interrupted read is answered at once with EINTR.
//   * The destructor unmounts (lazily, then aborts the connection) and joins its threads.
// Threads: create and destroy from one thread.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>

#include "common/result.h"
#include "fuse/image_fs.h"

namespace imsy::fuse {

struct SessionOptions {
  unsigned threads = 2;  // requests wait for disk at most, never for the network
};

struct SessionStats {
  std::uint64_t requests = 0;
  std::uint64_t reads = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t eio = 0;
};

class Session {
 public:
  // Mounts at `directory`, which exists and is empty. A dead mount that an earlier process left
  // there is detached first. kUnavailable: no /dev/fuse. kDenied: not allowed to mount.
  static Result<std::unique_ptr<Session>> mount(ImageFs& fs, const std::filesystem::path& directory,
                                                const SessionOptions& options = {});
  virtual ~Session() = default;

  // Tells the kernel to forget what it cached of /<slot> (its name and its tree).
  virtual void forget_slot(Slot slot) = 0;
  virtual SessionStats stats() const = 0;
};

}  // namespace imsy::fuse
