// CriProxy: the kubelet's image service at our socket, which is containerd's.
//
// Every call of runtime.v1.ImageService is passed on as it came, bytes, metadata, deadline and
// cancellation, and so is the answer. On the way the credentials of pulls are noted
// (credentials/cri_logins.h), before containerd is asked, as it asks us in turn for the layers.
// Errors: containerd's own; UNAVAILABLE with its address while it is not reached; UNIMPLEMENTED for
//   other services.
// Threads: gRPC's; nothing here waits.
// Source: cri-api runtime/v1.
#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "snapshotter/credentials/cri_logins.h"

namespace imsy::snapshotter {

class CriProxy final : public grpc::CallbackGenericService {
 public:
  // `containerd`: the path of its socket. The proxy outlives the server.
  CriProxy(std::string containerd, std::shared_ptr<CriLogins> logins);

  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override;

 private:
  class Call;

  const std::string containerd_;
  const std::shared_ptr<CriLogins> logins_;
  const std::shared_ptr<grpc::Channel> channel_;
  grpc::GenericStub stub_;
};

}  // namespace imsy::snapshotter
