// docker's configuration as a place of credentials, and the challenges that ask for them.
//
// Source: docker config.json (`auths` with auth or identitytoken; `credHelpers`, `credsStore` run
// docker-credential-<x> get with posix_spawn), RFC 7235/7617 challenges, the distribution token
// specification (docs/spec/auth/token.md) for bearer tokens.
// No credential is ever logged, put into an error message, or handed to a host it was not meant
// for.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/result.h"
#include "oci/credentials.h"
#include "oci/descriptor.h"

namespace imsy::oci {

// Looks up docker's configuration: $DOCKER_CONFIG/config.json, else ~/.docker/config.json. A
// missing file means no credentials; an unreadable or malformed one is an error that names it.
// Docker Hub is known there as "https://index.docker.io/v1/".
class DockerConfig final : public Credentials {
 public:
  static std::filesystem::path default_path();
  explicit DockerConfig(std::filesystem::path path = default_path());
  // Reads the file each time, so that a rotated one is seen. May start a helper program (10 s
  // limit).
  Result<std::vector<Credential>> find(const CredentialQuery& query) const override;

 private:
  std::filesystem::path path_;
};

// That place alone.
std::shared_ptr<const CredentialPlaces> docker_credentials(
    std::filesystem::path path = DockerConfig::default_path());

// Whether `host` is one of the names of Docker Hub.
bool is_docker_hub(std::string_view host);
// Whether `key` (host, host:port, or a URL), as in "auths", is for all of the registry at `host`.
bool names_host(std::string_view key, std::string_view host);
// user:password in base64. kInvalid, in words that do not quote it.
Result<Credential> decode_login(std::string_view encoded);
// The value of a key of "auths". Errors as decode_login.
Result<Credential> parse_login(const Json& entry);

// One challenge of a WWW-Authenticate header.
struct Challenge {
  std::string scheme;  // lower case: "basic", "bearer"
  std::map<std::string, std::string> parameters;
};
// All challenges of a header value, in order. Malformed input: what could be read before it.
std::vector<Challenge> parse_challenges(std::string_view header);

}  // namespace imsy::oci
