// Session: an ImageFs as a mounted filesystem.
//
// Promises
//   * Mounted read-only with nosuid, nodev, allow_other and default_permissions; visible to all who
//     can reach the directory.
//   * Every request is answered exactly once, with EIO when all else fails. Each EIO is logged with
//     file, object and reason (rate-limited), and counted.
//   * An interrupted read is answered at once with EINTR.
//   * The destructor unmounts lazily, answers the reads that still wait with EIO, joins its threads
//     and closes the device, upon which the kernel aborts the connection: who still uses files of
//     the mount gets ENOTCONN. It waits for the disk at most, never for the network.
// Threads: create and destroy from one thread, which holds no lock that a request may need.
#pragma once

#include <chrono>
#include <cstdint>
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
  std::uint64_t reads = 0;  // answered with bytes
  std::uint64_t read_bytes = 0;
  std::uint64_t eio = 0;
  std::uint64_t waiting_reads = 0;  // not answered yet
};

class Session {
 public:
  // Mounts at `directory`, which exists and is empty. A dead mount that an earlier process left
  // there is detached first. kUnavailable: no /dev/fuse. kDenied: not allowed to mount.
  // kFailedPrecondition: not an empty directory, or something is mounted there. `fs` outlives the
  // session.
  static Result<std::unique_ptr<Session>> mount(ImageFs& fs, const std::filesystem::path& directory,
                                                const SessionOptions& options = {});
  virtual ~Session() = default;

  // Tells the kernel to forget what it cached of /<slot> (its name and its tree). Call it after
  // ImageFs::remove, holding no lock: the kernel may wait for a request on that directory to be
  // answered. Files that are open stay open.
  virtual void forget_slot(Slot slot) = 0;
  // Whether its directory shows it and it answers. False once somebody unmounted it, mounted
  // something over it, or aborted it. Asks the kernel, which asks this session.
  virtual bool is_in_place() const = 0;
  // Whether the kernel has ended it: nobody uses it any more, or somebody aborted it.
  virtual bool is_over() const = 0;
  virtual SessionStats stats() const = 0;
};

// The kernel aborts a whole FUSE connection when one request waits longer than this (Linux 6.14 or
// later, fs.fuse.*_request_timeout); 0: it never does. A fetcher's deadline must be shorter.
std::chrono::seconds kernel_request_timeout();

}  // namespace imsy::fuse
