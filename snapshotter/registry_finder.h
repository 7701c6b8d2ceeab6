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
//   3. containerd's directory of hosts says where a registry and its mirrors are asked, else the
//      configuration file, else the registry is asked by https, and by http if it is on loopback.
//   4. Last come the places that worked before, if they would still be asked.
// Threads: all methods from any thread. find() waits for containerd, all wait for the disk, nothing
// for
//   the network.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "oci/hosts_file.h"
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
  Digest data_blob;              // of the first data layer, as the anchor says
  std::vector<Source> remembered;
};

// Where to ask for what `name` serves (with or without port) by the configuration file, in order.
std::vector<oci::Host> configured_hosts(const std::string& name,
                                        const std::vector<RegistryConfig>& configured);

// Whose the content is that this registry has given: "" anybody's when it needed no credential,
// else a name for registry and credential, made with `secret` so that it does not help to guess the
// credential.
std::string trust_domain(const oci::Registry& registry, const std::string& secret);

class RegistryFinder {
 public:
  // `containerd` and `http` outlive the finder.
  RegistryFinder(const Config& config, Containerd& containerd, oci::HttpClient& http,
                 std::shared_ptr<const oci::CredentialPlaces> credentials)
      : containerd_(containerd),
        http_(http),
        credentials_(std::move(credentials)),
        directory_(config.hosts_dir),
        registries_(config.registries) {}

  // Other entries of the configuration file, for what is looked for from now on.
  void set_registries(std::vector<RegistryConfig> registries);

  // Places to ask, best first, at most 16. kUnavailable with the reason when there is none.
  Result<std::vector<Source>> find(const ImageQuery& query, Containerd::Deadline deadline);

  // The repository at `source`; the same object as long as somebody holds it, as it holds tokens,
  // and what is configured for its host stays the same. kNotFound: that place is not configured any
  // more.
  Result<std::shared_ptr<oci::Registry>> open(const Source& source);

 private:
  struct Place {
    std::string host;  // without port
    std::string repository;
  };
  Result<std::vector<Place>> places(const ImageQuery& query, Containerd::Deadline deadline);
  Result<std::vector<Place>> places_of_config(const ImageQuery& query,
                                              Containerd::Deadline deadline);
  Result<std::vector<Place>> places_of_manifests(const ImageQuery& query,
                                                 Containerd::Deadline deadline);
  static void add_places(const Labels& labels, std::vector<Place>& places);
  struct Open {
    oci::Host host;
    std::weak_ptr<oci::Registry> registry;
  };
  Result<std::vector<oci::Host>> hosts_for(const std::string& name) const;
  Result<oci::Host> host_of(const Source& source) const;

  Containerd& containerd_;
  oci::HttpClient& http_;
  const std::shared_ptr<const oci::CredentialPlaces> credentials_;
  const oci::HostsDirectory directory_;
  mutable Mutex mu_;
  std::vector<RegistryConfig> registries_ IMSY_GUARDED_BY(mu_);
  std::map<std::string, Open> open_ IMSY_GUARDED_BY(mu_);
};

}  // namespace imsy::snapshotter
