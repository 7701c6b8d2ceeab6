#include "snapshotter/registry_finder.h"

#include <algorithm>

#include "common/log.h"
#include "oci/descriptor.h"
#include "oci/reference.h"

namespace imsy::snapshotter {
namespace {

constexpr std::size_t kSourcesMax = 16;
constexpr std::string_view kSourceLabel = "containerd.io/distribution.source.";

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

void add_source(std::vector<Source>& sources, Source source) {
  if (sources.size() < kSourcesMax && std::ranges::find(sources, source) == sources.end()) {
    sources.push_back(std::move(source));
  }
}

}  // namespace

std::vector<oci::Host> configured_hosts(const std::string& name,
                                        const std::vector<RegistryConfig>& configured) {
  // A configured host without port stands for all its ports, unless one is configured itself.
  for (const std::string& one : {name, oci::without_port(name)}) {
    for (const RegistryConfig& registry : configured) {
      if (registry.host != one) continue;
      std::vector<oci::Host> hosts;
      for (const std::string& endpoint : registry.endpoints) {
        hosts.push_back(oci::host_at(endpoint));
      }
      return hosts;
    }
  }
  return {oci::host_of(name, oci::is_loopback(name))};
}

std::string trust_domain(const oci::Registry& registry, const std::string& secret) {
  const std::string identity = registry.identity();
  if (identity.empty()) return {};
  const std::string name = registry.name();
  return name.substr(0, name.find('/')) + " " + sha256(secret + identity).hex();
}

void RegistryFinder::set_registries(std::vector<RegistryConfig> registries) {
  MutexLock lock(mu_);
  registries_ = std::move(registries);
}

Result<std::vector<oci::Host>> RegistryFinder::hosts_for(const std::string& name) const {
  auto hosts = directory_.hosts_for(name);
  if (hosts || hosts.error().code() != Errc::kNotFound) return hosts;
  MutexLock lock(mu_);
  return configured_hosts(name, registries_);
}

Result<oci::Host> RegistryFinder::host_of(const Source& source) const {
  IMSY_TRY_ASSIGN(const auto hosts, hosts_for(source.host));
  for (const oci::Host& host : hosts) {
    if (host.root == source.endpoint) return host;
  }
  return Error(Errc::kNotFound, source.endpoint + " is not configured for " + source.host);
}

void RegistryFinder::add_places(const Labels& labels, std::vector<Place>& places) {
  for (const auto& [key, value] : labels) {
    if (!key.starts_with(kSourceLabel)) continue;
    for (std::string& repository : split(value, ',')) {
      places.push_back({key.substr(kSourceLabel.size()), std::move(repository)});
    }
  }
}

// Where containerd pulled from what has this image: the image itself, or one that was built upon
// it, whose configuration is another.
Result<std::vector<RegistryFinder::Place>> RegistryFinder::places(const ImageQuery& query,
                                                                  Containerd::Deadline deadline) {
  if (query.name_space.empty()) return Error(Errc::kNotFound, "the namespace is unknown");
  auto places = places_of_config(query, deadline);
  if (places || places.error().code() != Errc::kNotFound) return places;
  auto others = places_of_manifests(query, deadline);
  return others ? others : places;
}

Result<std::vector<RegistryFinder::Place>> RegistryFinder::places_of_manifests(
    const ImageQuery& query, Containerd::Deadline deadline) {
  // Below the first data layer there is the anchor layer alone.
  constexpr unsigned kDataLayer = 1;
  IMSY_TRY_ASSIGN(
      const auto manifests,
      containerd_.manifests_with_layer(query.name_space, query.data_blob, kDataLayer, deadline));
  std::vector<Place> places;
  for (const Labels& labels : manifests) add_places(labels, places);
  if (places.empty()) return Error(Errc::kNotFound, "no manifest has it");
  return places;
}

Result<std::vector<RegistryFinder::Place>> RegistryFinder::places_of_config(
    const ImageQuery& query, Containerd::Deadline deadline) {
  if (!query.config) return Error(Errc::kNotFound, "the label imsy.config is missing");
  IMSY_TRY_ASSIGN(const std::string text, containerd_.read_content(query.name_space, *query.config,
                                                                   oci::kDocumentLimit, deadline));
  IMSY_TRY_ASSIGN(const oci::ImageConfig config, oci::parse_config(text));
  if (config.diff_ids != query.diff_ids) {
    return Error(Errc::kCorrupt, "the configuration " + query.config->to_string() +
                                     " that the labels name belongs to another image");
  }
  IMSY_TRY_ASSIGN(const Labels labels,
                  containerd_.content_labels(query.name_space, *query.config, deadline));
  std::vector<Place> places;
  add_places(labels, places);
  if (places.empty()) {
    return Error(Errc::kNotFound, "containerd does not know where the image was pulled from");
  }
  return places;
}

Result<std::vector<Source>> RegistryFinder::find(const ImageQuery& query,
                                                 Containerd::Deadline deadline) {
  std::vector<Source> sources;
  std::string reason = "the configuration allows none of them";
  const auto add = [&](const std::string& name, const std::string& repository) {
    const auto hosts = hosts_for(name);
    if (!hosts) {
      log::warn("{} is not asked: {}", name, hosts.error().message());
      reason = hosts.error().message();
      return;
    }
    for (const oci::Host& host : *hosts) add_source(sources, {name, repository, host.root});
  };
  const auto known = places(query, deadline);
  if (known) {
    // The host with its port, if `name` agrees with what containerd knows.
    const auto add_agreeing = [&](const std::string& name) {
      const auto reference = oci::Reference::parse(name);
      if (!reference) return false;
      const auto agrees = [&](const Place& place) {
        return place.host == oci::without_port(reference->host) &&
               place.repository == reference->repository;
      };
      if (std::ranges::none_of(*known, agrees)) return false;
      add(reference->host, reference->repository);
      return true;
    };
    const bool named = !query.image_ref.empty() && add_agreeing(query.image_ref);
    if (!query.image_ref.empty() && !named) {
      log::warn("the label cri.image-ref is ignored: containerd did not pull from {}",
                query.image_ref);
    }
    if (!named && query.config) {
      const auto names = containerd_.image_names(query.name_space, *query.config, deadline);
      if (names) {
        for (const std::string& name : *names) add_agreeing(name);
      }
    }
    for (const Place& place : *known) {
      for (const std::string& name : directory_.names_with_port(place.host)) {
        add(name, place.repository);
      }
      add(place.host, place.repository);
    }
  }
  for (const Source& source : query.remembered) {
    if (host_of(source)) add_source(sources, source);
  }
  if (!sources.empty()) return sources;
  if (!known) reason = known.error().message();
  return Error(Errc::kUnavailable, "no registry is known for it: " + reason);
}

Result<std::shared_ptr<oci::Registry>> RegistryFinder::open(const Source& source) {
  IMSY_TRY_ASSIGN(oci::Host host, host_of(source));
  const std::string name = source.host + " " + source.endpoint + "/" + source.repository;
  MutexLock lock(mu_);
  if (const auto found = open_.find(name); found != open_.end() && found->second.host == host) {
    if (auto registry = found->second.registry.lock()) return registry;
  }
  std::erase_if(open_, [](const auto& entry) { return entry.second.registry.expired(); });
  oci::RegistryOptions options;
  options.host = host;
  options.repository = source.repository;
  options.credentials = credentials_;
  options.patient = false;
  IMSY_TRY_ASSIGN(auto registry, oci::Registry::open(http_, std::move(options)));
  open_[name] = {std::move(host), registry};
  return registry;
}

}  // namespace imsy::snapshotter
