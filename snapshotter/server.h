// Server: gRPC over connections that we accept ourselves.
//
// gRPC can bind a path, but not take a listening socket: it would remove and replace a socket that
// another daemon listens at, give it the mode of the umask, and could not be handed one by systemd.
// So one thread accepts, and hands each connection over.
// Threads: create, stop and destroy from one thread.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server.h>

#include <chrono>
#include <memory>
#include <thread>

#include "common/io.h"
#include "common/result.h"

namespace imsy::snapshotter {

class Server {
 public:
  // Serves `service` to all who connect to `listening`, and leaves calls of other services to
  // `others`, if there is one. Both outlive the server.
  static Result<std::unique_ptr<Server>> start(UniqueFd listening, grpc::Service& service,
                                               grpc::CallbackGenericService* others = nullptr);
  // stop() without patience, unless it was called.
  ~Server();

  // No new connections or calls; calls in progress get `patience` to end, then they are cancelled.
  // Returns when all have ended.
  void stop(std::chrono::milliseconds patience);

 private:
  Server() = default;
  void accept_loop();

  UniqueFd listening_;
  UniqueFd wake_;  // readable: stop accepting
  std::unique_ptr<grpc::Server> server_;
  std::jthread acceptor_;
};

}  // namespace imsy::snapshotter
