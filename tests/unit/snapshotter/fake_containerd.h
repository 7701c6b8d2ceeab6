// FakeContainerd: the services of containerd that imsy-snapshotter asks, on a unix socket.
//
// Holds blobs with labels and images per namespace, as a test puts them in. Content lists know the
// filters that are sent: labels."<key>"==<value>.
// Threads: all methods from any thread; calls come in on gRPC's threads.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/digest.h"

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
  // Calls so far, of all services.
  std::size_t calls() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace imsy::test
