#include "snapshotter/server.h"

#include <grpcpp/server_builder.h>
#include <grpcpp/server_posix.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "common/log.h"
#include "common/thread_pool.h"
#include "proto/deadline.h"

namespace imsy::snapshotter {
namespace {

// containerd's own limit, in both directions.
constexpr int kMessageLimit = 16 << 20;
// Bounds the queues of calls; containerd has far fewer in flight.
constexpr int kCallsPerConnection = 256;

// Errors of accept that concern one connection, not the socket.
bool is_passing(int error) {
  return error == EAGAIN || error == EINTR || error == ECONNABORTED || error == EPROTO;
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(UniqueFd listening, grpc::Service& service,
                                              grpc::CallbackGenericService* others) {
  std::unique_ptr<Server> server(new Server());
  server->listening_ = std::move(listening);
  server->wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  if (!server->wake_) return Error::from_errno(errno, "make an event descriptor");
  grpc::ServerBuilder builder;
  builder.RegisterService(&service);
  if (others != nullptr) builder.RegisterCallbackGenericService(others);
  builder.SetMaxReceiveMessageSize(kMessageLimit);
  builder.SetMaxSendMessageSize(kMessageLimit);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kCallsPerConnection);
  server->server_ = builder.BuildAndStart();
  if (server->server_ == nullptr) return Error(Errc::kInternal, "gRPC did not start");
  server->acceptor_ = std::jthread([self = server.get()] { self->accept_loop(); });
  return server;
}

Server::~Server() {
  stop(std::chrono::milliseconds(0));
}

void Server::accept_loop() {
  name_this_thread("accept");
  bool exhausted = false;
  while (true) {
    std::array<pollfd, 2> events = {pollfd{wake_.get(), POLLIN, 0},
                                    pollfd{listening_.get(), POLLIN, 0}};
    // Without a free descriptor the socket stays readable: look at it again a little later.
    const nfds_t watched = exhausted ? 1 : 2;
    const int ready = poll(events.data(), watched, exhausted ? 100 : -1);
    exhausted = false;
    if (ready < 0 && errno != EINTR) {
      log::error("no connections are accepted any more: poll: {}", std::strerror(errno));
      return;
    }
    if (events[0].revents != 0) return;
    UniqueFd connection(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection) {
      grpc::AddInsecureChannelFromFd(server_.get(), connection.release());
    } else if (!is_passing(errno)) {
      log::error("a connection is not accepted: {}", std::strerror(errno));
      exhausted = true;
    }
  }
}

void Server::stop(std::chrono::milliseconds patience) {
  if (!acceptor_.joinable()) return;
  const std::uint64_t one = 1;
  if (write(wake_.get(), &one, sizeof one) != sizeof one) {
    log::error("cannot wake the accepting thread: {}", std::strerror(errno));
  }
  acceptor_.join();
  listening_.reset();
  server_->Shutdown(deadline_after(patience));
  server_->Wait();
  server_.reset();
}

}  // namespace imsy::snapshotter
