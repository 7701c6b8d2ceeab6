#include "snapshotter/registry_finder.h"

#include <algorithm>
#include <array>

#include "common/log.h"
#include "oci/descriptor.h"
#include "oci/reference.h"

namespace imsy::snapshotter {
namespace {

constexpr std::size_t kSourcesMax = 16;
constexpr std::string_view kSourceLabel = "containerd.io/distribution.source.";
constexpr std::string_view kDockerHub = "docker.io";
constexpr std::string_view kDockerHubEndpoint = "registry-1.docker.io";

// "host:port", "host", "[v6]:port" -> "host", "v6", as Go's URL.Hostname(), whose result stands in
// containerd's labels.
std::string without_port(std::string_view host) {
  if (host.starts_with('[')) {
    const std::size_t end = host.find(']');
    if (end != std::string_view::npos) return std::string(host.substr(1, end - 1));
  }
  // More than one colon and no brackets: an address without port.
  const std::size_t colon = host.find(':');
  if (colon != std::string_view::npos && host.find(':', colon + 1) == std::string_view::npos) {
    host = host.substr(0, colon);
  }
  return std::string(host);
}

bool is_loopback(const std::string& host) {
  constexpr std::array<std::string_view, 3> kLoopback = {"localhost", "127.0.0.1", "::1"};
  return std::ranges::find(kLoopback, without_port(host)) != kLoopback.end();
}

// A host as it stands in URLs: IPv6 addresses in brackets.
std::string for_url(const std::string& host) {
  if (!host.starts_with('[') && std::ranges::count(host, ':') > 1) return "[" + host + "]";
  return host;
}

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

std::vector<std::string> endpoints_for(const std::string& host,
                                       const std::vector<RegistryConfig>& configured) {
  // A configured host without port stands for all its ports, unless one is configured itself.
  for (const std::string& name : {host, without_port(host)}) {
    for (const RegistryConfig& registry : configured) {
      if (registry.host == name) return registry.endpoints;
    }
  }
  return {oci::Registry::endpoint_for(for_url(host), is_loopback(host))};
}

std::string credential_host(const std::string& endpoint) {
  const std::size_t scheme = endpoint.find("://");
  std::string host = scheme == std::string::npos ? endpoint : endpoint.substr(scheme + 3);
  if (host == kDockerHubEndpoint) host = kDockerHub;
  return host;
}

Result<std::vector<RegistryFinder::Place>> RegistryFinder::places(const ImageQuery& query,
                                                                  Containerd::Deadline deadline) {
  if (!query.config) return Error(Errc::kNotFound, "the label imsy.config is missing");
  if (query.name_space.empty()) return Error(Errc::kNotFound, "the namespace is unknown");
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
  for (const auto& [key, value] : labels) {
    if (!key.starts_with(kSourceLabel)) continue;
    for (std::string& repository : split(value, ',')) {
      places.push_back({key.substr(kSourceLabel.size()), std::move(repository)});
    }
  }
  if (places.empty()) {
    return Error(Errc::kNotFound, "containerd does not know where the image was pulled from");
  }
  return places;
}

Result<std::vector<Source>> RegistryFinder::find(const ImageQuery& query,
                                                 Containerd::Deadline deadline) {
  std::vector<Source> sources;
  const auto add = [&](const std::string& host, const std::string& repository) {
    for (const std::string& endpoint : endpoints_for(host, config_.registries)) {
      add_source(sources, {host, repository, endpoint});
    }
  };
  const auto known = places(query, deadline);
  if (known) {
    // The host with its port, if `name` agrees with what containerd knows.
    const auto add_agreeing = [&](const std::string& name) {
      const auto reference = oci::Reference::parse(name);
      if (!reference) return false;
      const auto agrees = [&](const Place& place) {
        return place.host == without_port(reference->host) &&
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
    if (!named) {
      const auto names = containerd_.image_names(query.name_space, *query.config, deadline);
      if (names) {
        for (const std::string& name : *names) add_agreeing(name);
      }
    }
    for (const Place& place : *known) add(place.host, place.repository);
  }
  for (const Source& source : query.remembered) add_source(sources, source);
  if (!sources.empty()) return sources;
  return Error(Errc::kUnavailable, "no registry is known for it: " + known.error().message());
}

oci::DockerConfig RegistryFinder::docker_config() const {
  if (config_.docker_config.empty()) return oci::DockerConfig();
  return oci::DockerConfig(config_.docker_config);
}

Result<std::shared_ptr<oci::Registry>> RegistryFinder::open(const Source& source) {
  const std::string name = source.endpoint + "/" + source.repository;
  MutexLock lock(mu_);
  if (const auto found = open_.find(name); found != open_.end()) {
    if (auto registry = found->second.lock()) return registry;
  }
  std::erase_if(open_, [](const auto& entry) { return entry.second.expired(); });
  IMSY_TRY_ASSIGN(auto registry,
                  oci::Registry::open(http_, {.endpoint = source.endpoint,
                                              .repository = source.repository,
                                              .credential_host = credential_host(source.endpoint),
                                              .credentials = docker_config(),
                                              .push = false}));
  open_[name] = registry;
  return registry;
}

Result<std::string> RegistryFinder::trust_domain(const oci::Registry& registry,
                                                 const Source& source, const std::string& secret) {
  if (!registry.used_credential()) return std::string();
  const std::string host = credential_host(source.endpoint);
  IMSY_TRY_ASSIGN(const auto credential, docker_config().find(host));
  // Length before content, so that no two credentials give the same bytes.
  std::string all = secret;
  if (credential) {
    for (const std::string& part :
         {credential->username, credential->password, credential->identity_token}) {
      all += std::to_string(part.size()) + ":" + part;
    }
  }
  return host + " " + sha256(all).hex();
}

}  // namespace imsy::snapshotter
