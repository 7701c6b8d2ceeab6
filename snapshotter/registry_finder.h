// RegistryFinder: which registry holds an image's blobs, and what to call it by.
//
// containerd knows where an image came from, but does not tell us; and the labels that it passes on
// may have been written by the image's author, who must not choose whom we talk to with the node's
// credentials. So:
//   1. The label imsy.config is believed only if that configuration, as containerd has it, lists
//      exactly the layers of this image. containerd's labels of the configuration then say from
//      which hosts and repositories it was pulled, though without ports.
//   2. The label cri.image-ref, and the names of images with this configuration, are used where
//      they agree with that: they add the port.
//   3. The configuration file maps a host to endpoints. Without it a host is asked by https, and a
//      loopback host by http.
//   4. Last come the places that worked before.
// Threads: all methods from any thread. find() waits for containerd, nothing waits for the network.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "oci/registry.h"
#include "snapshotter/config.h"
#include "snapshotter/containerd.h"
#include "snapshotter/database.h"

namespace imsy::snapshotter {

struct ImageQuery {
  std::string name_space;        // containerd's
  std::optional<Digest> config;  // claimed
  std::string image_ref;         // claimed; "" when unknown
  std::vector<Digest> diff_ids;  // of all layers, bottom first: anchor, data layers
  std::vector<Source> remembered;
};

// Where to ask for what `host` serves (with or without port), in order.
std::vector<std::string> endpoints_for(const std::string& host,
                                       const std::vector<RegistryConfig>& configured);

// The name by which credentials for an endpoint are looked up: its own, so that nobody else's
// credentials reach it.
std::string credential_host(const std::string& endpoint);

class RegistryFinder {
 public:
  // `containerd` and `http` outlive the finder.
  RegistryFinder(const Config& config, Containerd& containerd, oci::HttpClient& http)
      : config_(config), containerd_(containerd), http_(http) {}

  // Places to ask, best first, at most 16. kUnavailable with the reason when there is none.
  Result<std::vector<Source>> find(const ImageQuery& query, Containerd::Deadline deadline);

  // The repository at `source`; the same object as long as somebody holds it, as it holds tokens.
  Result<std::shared_ptr<oci::Registry>> open(const Source& source);

  // Content that needed no credential is public: "". Otherwise a name for registry and credential,
  // made with `secret` so that it does not help to guess the credential.
  Result<std::string> trust_domain(const oci::Registry& registry, const Source& source,
                                   const std::string& secret);

 private:
  struct Place {
    std::string host;  // without port
    std::string repository;
  };
  Result<std::vector<Place>> places(const ImageQuery& query, Containerd::Deadline deadline);
  oci::DockerConfig docker_config() const;

  const Config config_;
  Containerd& containerd_;
  oci::HttpClient& http_;
  Mutex mu_;
  std::map<std::string, std::weak_ptr<oci::Registry>> open_ IMSY_GUARDED_BY(mu_);
};

}  // namespace imsy::snapshotter
