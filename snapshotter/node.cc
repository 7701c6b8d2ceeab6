#include "snapshotter/node.h"

#include <algorithm>
#include <thread>

#include "common/log.h"
#include "snapshotter/open_credentials.h"

namespace imsy::snapshotter {
namespace {

// The kernel aborts the whole mount when one request takes too long, where it is told to: a read
// must fail before that.
cas::FetcherOptions fetcher_options(const Config& config) {
  cas::FetcherOptions options;
  options.workers = std::clamp(std::thread::hardware_concurrency(), 2u, 8u);
  options.requests_per_host = config.connections_per_host;
  options.background_rate = config.background_rate;
  const std::chrono::milliseconds limit = fuse::kernel_request_timeout();
  if (limit.count() != 0) options.deadline = std::min(options.deadline, limit / 2);
  return options;
}

oci::HttpOptions http_options(const Config& config) {
  oci::HttpOptions options;
  options.connections_per_host = config.connections_per_host;
  return options;
}

// Null when they cannot be kept: a full disk, for one, must not keep the node from starting.
std::unique_ptr<Profiles> open_profiles(const Layout& layout) {
  auto profiles = Profiles::open(layout.profiles());
  if (profiles) return std::move(*profiles);
  log::warn("no start of an image is recorded: {}", profiles.error().message());
  return nullptr;
}

}  // namespace

Result<std::unique_ptr<Node>> Node::start(const Layout& layout, const Config& config,
                                          Database& database) {
  std::unique_ptr<Node> node(new Node(layout));
  node->containerd_ = connect_containerd(config.containerd_address);
  auto tree = LazyTree::mount(node->fs_, layout.mount_point());
  if (!tree) {
    log::error("imsy images are unpacked like others, lazy ones cannot be used: {}",
               tree.error().message());
    node->no_tree_ = tree.error();
    node->none_ = std::make_unique<NoImages>(tree.error());
    node->images_ = node->none_.get();
    return node;
  }
  node->tree_ = std::move(*tree);
  IMSY_TRY_ASSIGN(node->store_, cas::Store::open(layout.store(), config.store));
  node->http_ = std::make_unique<oci::HttpClient>(http_options(config));
  IMSY_TRY_ASSIGN(auto credentials, open_credentials(config, node->cri_logins_));
  node->finder_ = std::make_unique<RegistryFinder>(config, *node->containerd_, *node->http_,
                                                   std::move(credentials));
  node->fetcher_ = cas::Fetcher::create(*node->store_, fetcher_options(config));
  node->profiles_ = open_profiles(layout);
  node->lazy_ = std::make_unique<NodeImages>(NodeImages::Parts{
      database, *node->store_, *node->fetcher_, node->fs_, *node->tree_, *node->finder_,
      node->profiles_.get(), config.background_fill, config.record_profiles});
  node->lazy_->start();
  node->start_scrubber(config.scrub_rate);
  node->images_ = node->lazy_.get();
  return node;
}

void Node::start_scrubber(std::uint64_t rate) {
  scrub_rate_ = rate;
  scrubber_.reset();
  if (rate > 0) scrubber_ = std::make_unique<Scrubber>(*store_, *lazy_, scrub_file_, rate);
}

void Node::configure(const Config& config) {
  if (lazy_ == nullptr) return;
  finder_->set_registries(config.registries);
  const Status limits =
      store_->set_limits(config.store.quota_bytes, config.store.free_floor_percent);
  if (!limits) {
    log::warn("the store's new limits hold, but `imsy stat` does not know them: {}",
              limits.error().message());
  }
  if (config.scrub_rate != scrub_rate_) start_scrubber(config.scrub_rate);
}

void Node::stop() {
  scrubber_.reset();
  if (lazy_ != nullptr) lazy_->stop();
}

Node::~Node() {
  // First those who ask, then those who answer: without the fetcher nothing starts a request when
  // the HTTP client goes and ends those under way.
  stop();
  tree_.reset();
  fetcher_.reset();
  http_.reset();
  if (lazy_ != nullptr) {
    for (const auto& image : lazy_->stats()) fs_.remove(static_cast<fuse::Slot>(image.slot));
  }
  lazy_.reset();
  store_.reset();
}

void Node::maintain() {
  if (lazy_ == nullptr) return;
  lazy_->fill_what_was_lost();
  lazy_->write_recordings();
  lazy_->note_trust_domains();
}

Stats Node::stats() const {
  Stats stats;
  if (lazy_ == nullptr) return stats;
  const oci::HttpCounters wire = http_->counters();
  const cas::FetchStats fetched = fetcher_->stats();
  stats.bytes_fetched = wire.bytes_received;
  stats.requests = wire.requests;
  stats.bytes_copied = fetched.bytes_copied;
  stats.chunks_fetched = fetched.chunks_fetched;
  stats.bytes_gap = fetched.bytes_gap;
  stats.bytes_broken = fetched.bytes_broken;
  stats.bytes_wrong = fetched.bytes_wrong;
  stats.traffic = http_->traffic().read();
  stats.images = lazy_->stats();
  return stats;
}

fuse::SessionStats Node::tree_stats() const {
  return tree_ == nullptr ? fuse::SessionStats() : tree_->stats();
}

std::filesystem::space_info Node::space() const {
  std::error_code error;
  const auto space = std::filesystem::space(store_directory_, error);
  return error ? std::filesystem::space_info{} : space;
}

Health Node::health() const {
  Health health;
  if (no_tree_) {
    health.degraded.push_back("images are unpacked, lazy ones cannot be used: " +
                              no_tree_->message());
    return health;
  }
  // The next who starts a container of a lazy image mounts it again.
  if (!tree_->is_in_place()) {
    health.degraded.push_back(
        "the lazy tree was taken away; containers that used it may have lost "
        "their files");
  }
  for (const auto& problem : store_->problems()) {
    (problem.lasting ? health.broken : health.degraded).push_back(problem.what);
  }
  if (fetcher_->keeps_nothing()) {
    health.degraded.push_back(
        "the store cannot keep what is fetched, readers are served from "
        "memory: look for room on the disk");
  }
  return health;
}

}  // namespace imsy::snapshotter
