// FakeContainerd: the services of containerd that imsy-snapshotter asks, and its image service, on
// a unix socket.
//
// Holds blobs with labels and images per namespace, as a test puts them in. Content lists know the
// filters that are sent: labels."<key>"==<value>.
// Threads: all methods from any thread; calls come in on gRPC's threads.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/digest.h"
#include "common/result.h"
#include "proto/cri/images.grpc.pb.h"

namespace imsy::test {

class FakeContainerd {
 public:
  // Listens at `socket`, which must not exist.
  explicit FakeContainerd(const std::filesystem::path& socket);
  ~FakeContainerd();
  FakeContainerd(const FakeContainerd&) = delete;
  FakeContainerd& operator=(const FakeContainerd&) = delete;

  Digest add_blob(const std::string& name_space, const std::string& bytes,
                  std::map<std::string, std::string> labels = {});
  std::optional<std::string> blob(const std::string& name_space, const Digest& digest) const;
  void set_blob(const std::string& name_space, const Digest& digest, const std::string& bytes);
  void add_image(const std::string& name_space, const std::string& name, const Digest& target);
  // What a pull of the kubelet's does here; it answers with this ID of the image, or an error. Not
  // set: there is no image service.
  using OnPull = std::function<Result<std::string>(const runtime::v1::PullImageRequest&)>;
  void on_pull(OnPull pull);
  // Calls so far, of all services.
  std::size_t calls() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace imsy::test
