// Node: all that lazy images need on this machine, built and taken down in order.
//
// Threads: create, stop and destroy from one thread.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "cas/fetcher.h"
#include "cas/store.h"
#include "common/result.h"
#include "fuse/image_fs.h"
#include "oci/http.h"
#include "snapshotter/config.h"
#include "snapshotter/containerd.h"
#include "snapshotter/credentials/cri_logins.h"
#include "snapshotter/database.h"
#include "snapshotter/health.h"
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
  // Takes over what can be changed while it runs. needs_restart() names the rest.
  void configure(const Config& config);
  // What has to be looked after now and then, about once a second. Waits for the disk.
  void maintain();
  Stats stats() const;
  fuse::SessionStats tree_stats() const;
  // What is wrong with it, as far as anybody has noticed. Asks the kernel whether the lazy tree is
  // in place, which asks the lazy tree.
  Health health() const;
  // Of the store's file system; zeros when that cannot be told.
  std::filesystem::space_info space() const;
  Containerd& containerd() { return *containerd_; }
  // Both null where lazy trees cannot be mounted.
  cas::Store* store() { return store_.get(); }
  // Where the kubelet's credentials are noted.
  const std::shared_ptr<CriLogins>& cri_logins() const { return cri_logins_; }
  NodeImages* lazy_images() { return lazy_.get(); }

 private:
  explicit Node(const Layout& layout)
      : store_directory_(layout.store()), scrub_file_(layout.scrub()) {}

  void start_scrubber(std::uint64_t rate);

  const std::filesystem::path store_directory_;
  const std::filesystem::path scrub_file_;
  std::optional<Error> no_tree_;  // why lazy trees cannot be mounted
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
  std::uint64_t scrub_rate_ = 0;
  std::unique_ptr<NoImages> none_;
  Images* images_ = nullptr;
};

}  // namespace imsy::snapshotter
