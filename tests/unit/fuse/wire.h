// Wire: a server without a kernel. A test writes the kernel's messages and reads the replies.
//
// Source of the messages: linux/fuse.h. Threads: send() and the getters from any thread.
#pragma once

#include <linux/fuse.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/mutex.h"
#include "fuse/fuse_api.h"
#include "fuse/server.h"

namespace imsy::fuse::testing {

struct WireReply {
  int error = 0;  // positive errno, or 0
  Bytes payload;

  // The payload as one of the structures of linux/fuse.h; all zero when it is too short.
  template <typename T>
  T as(std::size_t offset = 0) const {
    T value{};
    if (payload.size() >= offset + sizeof value) {
      std::memcpy(&value, payload.data() + offset, sizeof value);
    }
    return value;
  }
  std::string text() const { return std::string(as_text(payload)); }
};

class Wire {
 public:
  // One at a time. Negotiates as the kernel would.
  explicit Wire(ImageFs& fs);
  // Ends the session, with what still waits.
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  Server& server() { return *server_; }

  // Sends a request whose body is `body`, on the calling thread. Returns its number.
  std::uint64_t send(std::uint32_t opcode, NodeId node, ByteSpan body);
  void send(std::uint64_t unique, std::uint32_t opcode, NodeId node, ByteSpan body);
  template <typename T>
  std::uint64_t send(std::uint32_t opcode, NodeId node, const T& body) {
    return send(opcode, node, std::as_bytes(std::span(&body, 1)));
  }
  // A number for a request that is sent later.
  std::uint64_t reserve();

  // The kernel's requests, by name.
  std::uint64_t lookup(NodeId parent, const std::string& name);
  std::uint64_t read(NodeId node, std::uint64_t offset, std::uint32_t size);
  std::uint64_t read_as(std::uint64_t unique, NodeId node, std::uint64_t offset,
                        std::uint32_t size);
  void interrupt(std::uint64_t unique);
  std::uint64_t read_directory(std::uint32_t opcode, NodeId node, std::uint64_t offset,
                               std::uint32_t size);
  std::uint64_t get_xattr(NodeId node, const std::string& name, std::uint32_t room);

  // All replies to request `unique` so far.
  std::vector<WireReply> replies(std::uint64_t unique) const;
  // The only reply to `unique`; its error is -1 when there is none, or more than one.
  WireReply reply(std::uint64_t unique) const;
  std::uint64_t init_unique() const { return 1; }

 private:
  static ssize_t write_reply(int fd, iovec* parts, int count, void* server);
  static ssize_t read_request(int fd, void* buffer, std::size_t size, void* server);

  std::unique_ptr<Server> server_;
  fuse_session* session_ = nullptr;

  mutable Mutex mu_;
  std::uint64_t last_unique_ IMSY_GUARDED_BY(mu_) = 0;
  std::map<std::uint64_t, std::vector<WireReply>> replies_ IMSY_GUARDED_BY(mu_);
};

}  // namespace imsy::fuse::testing
