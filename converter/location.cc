#include "converter/location.h"

#include "oci/layout.h"
#include "oci/reference.h"
#include "oci/registry.h"

namespace imsy::converter {
namespace {

constexpr std::string_view kLayoutPrefix = "oci:";

Result<Location> parse_layout(std::string_view text) {
  Location location;
  location.kind = Location::Kind::kLayout;
  location.text = text;
  std::string_view rest = text.substr(kLayoutPrefix.size());
  const std::size_t slash = rest.rfind('/');
  const std::size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
    location.object = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
  }
  if (rest.empty()) return Error(Errc::kInvalid, "\"oci:\" needs a directory: oci:DIR[:tag]");
  location.directory = rest;
  return location;
}

}  // namespace

Result<Location> Location::parse(std::string_view text) {
  if (text.starts_with(kLayoutPrefix)) return parse_layout(text);
  for (const std::string_view other :
       {"docker://", "oci-archive:", "docker-archive:", "dir:", "tar:", "http://", "https://"}) {
    if (text.starts_with(other)) {
      return Error(Errc::kInvalid, "\"" + std::string(text) +
                                       "\" is not supported: give registry/repository:tag or "
                                       "oci:DIR[:tag]");
    }
  }
  auto reference = oci::Reference::parse(text);
  if (!reference) return reference.error();
  Location location;
  location.text = text;
  location.host = reference->host;
  location.repository = reference->repository;
  location.object = reference->object();
  return location;
}

Result<std::shared_ptr<oci::Repository>> open(const Location& location, Access access,
                                              bool plain_http, oci::HttpClient& http) {
  if (location.kind == Location::Kind::kLayout) {
    auto layout = access == Access::kWrite ? oci::Layout::open_or_create(location.directory)
                                           : oci::Layout::open(location.directory);
    if (!layout) return layout.error();
    return std::shared_ptr<oci::Repository>(std::move(*layout));
  }
  oci::RegistryOptions options;
  options.endpoint = oci::Registry::endpoint_for(location.host, plain_http);
  options.repository = location.repository;
  options.credential_host = location.host;
  options.push = access == Access::kWrite;
  IMSY_TRY_ASSIGN(auto registry, oci::Registry::open(http, std::move(options)));
  return std::shared_ptr<oci::Repository>(std::move(registry));
}

Result<oci::Document> resolve(oci::Repository& repository, const Location& location) {
  if (location.kind == Location::Kind::kLayout) {
    auto& layout = dynamic_cast<oci::Layout&>(repository);
    IMSY_TRY_ASSIGN(const auto entry, layout.find(location.object));
    return layout.get_manifest(entry.digest.to_string());
  }
  return repository.get_manifest(location.object);
}

}  // namespace imsy::converter
