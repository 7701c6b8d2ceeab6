// Node: all that lazy images need on this machine, built and taken down in order.
//
// Threads: create, stop and destroy from one thread.
#pragma once

#include <memory>

#include "cas/fetcher.h"
#include "cas/store.h"
#include "common/result.h"
#include "fuse/image_fs.h"
#include "oci/http.h"
#include "snapshotter/config.h"
#include "snapshotter/containerd.h"
#include "snapshotter/credentials/cri_logins.h"
#include "snapshotter/database.h"
#include "snapshotter/layout.h"
#include "snapshotter/lazy_tree.h"
#include "snapshotter/no_images.h"
#include "snapshotter/node_images.h"
#include "snapshotter/profiles.h"
#include "snapshotter/registry_finder.h"
#include "snapshotter/scrubber.h"
#include "snapshotter/stats.h"

namespace imsy::snapshotter {

class Node {
 public:
  // Needs neither network nor containerd. Where lazy trees cannot be mounted (no /dev/fuse), the
  // node works without lazy images and says so. An error: the store is not usable. `database`
  // outlives the node.
  static Result<std::unique_ptr<Node>> start(const Layout& layout, const Config& config,
                                             Database& database);
  // Unmounts the lazy trees.
  ~Node();

  Images& images() { return *images_; }
  // Ends all waiting for registries and containerd; images() fails from then on.
  void stop();
  // What has to be looked after now and then, about once a second. Waits for the disk.
  void maintain();
  Stats stats() const;
  // Both null where lazy trees cannot be mounted.
  cas::Store* store() { return store_.get(); }
  // Where the kubelet's credentials are noted.
  const std::shared_ptr<CriLogins>& cri_logins() const { return cri_logins_; }
  NodeImages* lazy_images() { return lazy_.get(); }

 private:
  Node() = default;

  std::shared_ptr<CriLogins> cri_logins_ = std::make_shared<CriLogins>();
  std::unique_ptr<cas::Store> store_;
  std::unique_ptr<Profiles> profiles_;  // null: they cannot be kept
  std::unique_ptr<Containerd> containerd_;
  std::unique_ptr<oci::HttpClient> http_;
  std::unique_ptr<RegistryFinder> finder_;
  std::unique_ptr<cas::Fetcher> fetcher_;
  fuse::ImageFs fs_;
  std::unique_ptr<LazyTree> tree_;      // null: lazy trees cannot be mounted
  std::unique_ptr<NodeImages> lazy_;    // null likewise
  std::unique_ptr<Scrubber> scrubber_;  // null likewise, and when it is switched off
  std::unique_ptr<NoImages> none_;
  Images* images_ = nullptr;
};

}  // namespace imsy::snapshotter
