// Reply: the duty to answer one request of the kernel: exactly one reply, whatever happens.
//
// Promises
//   * The first answer is sent; a Reply that dies without one answers EIO. Either is counted and
//     logged when it is EIO.
// Threads: one at a time, any thread; answering never waits.
#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <string>
#include <string_view>
#include <utility>

#include "common/bytes.h"
#include "common/result.h"
#include "fuse/fuse_api.h"
#include "fuse/image_fs.h"

namespace imsy::fuse {

class Server;

// For how long the kernel may keep what it was told, seconds.
struct Timeouts {
  double name = 0;
  double attributes = 0;
};

class Reply {
 public:
  Reply(Server& server, fuse_req_t request, NodeId node)
      : server_(server), node_(node), request_(request) {}
  // The duty passes on; `other` has nothing left to answer.
  Reply(Reply&& other) noexcept
      : server_(other.server_), node_(other.node_), request_(other.take()) {}
  Reply& operator=(Reply&&) = delete;
  ~Reply();

  // Whether the request still waits for its answer.
  explicit operator bool() const { return request_ != nullptr; }
  fuse_req_t request() const { return request_; }

  void entry(const struct stat& attributes, const Timeouts& timeouts);
  // "No such name", which the kernel remembers for `seconds`.
  void no_entry(double seconds);
  void attributes(const struct stat& attributes, double seconds);
  void link(const std::string& target);
  void open(const fuse_file_info& info);
  void data(ByteSpan bytes);
  // A value read by the protocol of getxattr(2): with room for 0 bytes the question is how long it
  // is; with less room than needed the answer is ERANGE.
  void xattr(std::string_view value, std::size_t room);
  void file_system(const struct statvfs& numbers);
  // The errno that stands for the error.
  void error(const Error& error);
  // An errno that is the protocol's own, not a failure: ENODATA, EROFS, ENOSYS.
  void refuse(int err);

 private:
  fuse_req_t take() { return std::exchange(request_, nullptr); }

  Server& server_;
  const NodeId node_;
  fuse_req_t request_;
};

}  // namespace imsy::fuse
