#include "tests/unit/fuse/wire.h"

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "fuse/ops.h"

namespace imsy::fuse::testing {
namespace {

// libfuse hands its I/O functions the session's user data, which is the Server: the Wire is found
// here.
std::atomic<Wire*> current{nullptr};

}  // namespace

Wire::Wire(ImageFs& fs) : server_(std::make_unique<Server>(fs)) {
  if (current.exchange(this) != nullptr) std::abort();
  char name[] = "wire";
  char* arguments[] = {name, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  session_ = fuse_session_new(&args, &image_ops(), sizeof(fuse_lowlevel_ops), server_.get());
  fuse_opt_free_args(&args);
  fuse_custom_io io{};
  io.writev = write_reply;
  io.read = read_request;
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (session_ == nullptr || fuse_session_custom_io(session_, &io, null) != 0) std::abort();
  fuse_init_in init{};
  init.major = FUSE_KERNEL_VERSION;
  init.minor = FUSE_KERNEL_MINOR_VERSION;
  init.max_readahead = 1u << 20;
  init.flags = ~0u;
  init.flags2 = 0;
  send(FUSE_INIT, 0, init);
}

Wire::~Wire() {
  server_->close();
  fuse_session_exit(session_);
  fuse_session_destroy(session_);
  server_.reset();
  current = nullptr;
}

ssize_t Wire::write_reply(int, iovec* parts, int count, void*) {
  Bytes message;
  for (int i = 0; i < count; ++i) {
    append(message, {static_cast<const std::byte*>(parts[i].iov_base), parts[i].iov_len});
  }
  fuse_out_header header{};
  std::memcpy(&header, message.data(), sizeof header);
  if (header.len != message.size()) std::abort();
  WireReply reply;
  reply.error = -header.error;
  reply.payload.assign(message.begin() + sizeof header, message.end());
  Wire& wire = *current.load();
  MutexLock lock(wire.mu_);
  wire.replies_[header.unique].push_back(std::move(reply));
  return static_cast<ssize_t>(message.size());
}

ssize_t Wire::read_request(int, void*, std::size_t, void*) {
  errno = EAGAIN;
  return -1;
}

std::uint64_t Wire::reserve() {
  MutexLock lock(mu_);
  return ++last_unique_;
}

void Wire::send(std::uint64_t unique, std::uint32_t opcode, NodeId node, ByteSpan body) {
  fuse_in_header header{};
  header.len = static_cast<std::uint32_t>(sizeof header + body.size());
  header.opcode = opcode;
  header.unique = unique;
  header.nodeid = node;
  Bytes message;
  append(message, std::as_bytes(std::span(&header, 1)));
  append(message, body);
  fuse_buf buffer{};
  buffer.mem = message.data();
  buffer.size = message.size();
  fuse_session_process_buf(session_, &buffer);
}

std::uint64_t Wire::send(std::uint32_t opcode, NodeId node, ByteSpan body) {
  const std::uint64_t unique = reserve();
  send(unique, opcode, node, body);
  return unique;
}

std::uint64_t Wire::lookup(NodeId parent, const std::string& name) {
  return send(FUSE_LOOKUP, parent, as_bytes(std::string_view(name.c_str(), name.size() + 1)));
}

std::uint64_t Wire::read_as(std::uint64_t unique, NodeId node, std::uint64_t offset,
                            std::uint32_t size) {
  fuse_read_in body{};
  body.offset = offset;
  body.size = size;
  send(unique, FUSE_READ, node, std::as_bytes(std::span(&body, 1)));
  return unique;
}

std::uint64_t Wire::read(NodeId node, std::uint64_t offset, std::uint32_t size) {
  return read_as(reserve(), node, offset, size);
}

void Wire::interrupt(std::uint64_t unique) {
  fuse_interrupt_in body{};
  body.unique = unique;
  // A number of its own, beside those of requests.
  send(unique | (std::uint64_t{1} << 63), FUSE_INTERRUPT, 0, std::as_bytes(std::span(&body, 1)));
}

std::uint64_t Wire::read_directory(std::uint32_t opcode, NodeId node, std::uint64_t offset,
                                   std::uint32_t size) {
  fuse_read_in body{};
  body.offset = offset;
  body.size = size;
  return send(opcode, node, body);
}

std::uint64_t Wire::get_xattr(NodeId node, const std::string& name, std::uint32_t room) {
  fuse_getxattr_in head{};
  head.size = room;
  Bytes body;
  append(body, std::as_bytes(std::span(&head, 1)));
  append(body, as_bytes(std::string_view(name.c_str(), name.size() + 1)));
  return send(FUSE_GETXATTR, node, ByteSpan(body));
}

std::vector<WireReply> Wire::replies(std::uint64_t unique) const {
  MutexLock lock(mu_);
  const auto found = replies_.find(unique);
  return found == replies_.end() ? std::vector<WireReply>() : found->second;
}

WireReply Wire::reply(std::uint64_t unique) const {
  auto all = replies(unique);
  if (all.size() == 1) return std::move(all.front());
  WireReply none;
  none.error = -1;
  return none;
}

}  // namespace imsy::fuse::testing
