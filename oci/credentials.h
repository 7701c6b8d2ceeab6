// Credentials: where the login for a registry is looked up.
//
// docker's configuration (oci/auth.h) is one such place; CredentialPlaces are several. No
// credential is ever logged, put into an error message, or handed to a host it was not meant for.
// Threads: find() from any thread.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "common/result.h"

namespace imsy::oci {

struct Credential {
  std::string username;
  std::string password;
  std::string identity_token;  // OAuth2 refresh token, instead of a password
  std::string registry_token;  // shown to the registry as it is, as a bearer token
  // Where the place knows that its credentials are always one user's, whatever the password: a name
  // for that. "": another password may be another user's.
  std::string owner;
  bool empty() const {
    return username.empty() && identity_token.empty() && registry_token.empty();
  }
  bool operator==(const Credential&) const = default;
};

struct CredentialQuery {
  std::string host;        // with its port, as in references; Docker Hub is "docker.io"
  std::string repository;  // "library/ubuntu"
};

// One place of credentials.
class Credentials {
 public:
  virtual ~Credentials() = default;

  // What to show there, in the order in which to try; empty when there is nothing for it. Asked
  // anew for every login. May wait for the disk, another program or a server.
  virtual Result<std::vector<Credential>> find(const CredentialQuery& query) const = 0;
};

// All places, in the order in which they are asked: the next one only when what the one before it
// has does not help, so that a place which is away delays nobody who needs nothing of it.
class CredentialPlaces {
 public:
  using Place = std::shared_ptr<const Credentials>;
  explicit CredentialPlaces(std::vector<Place> places);

  std::size_t size() const { return places_.size(); }
  // Asks place `i` < size(). An error is logged when its reason is a new one.
  Result<std::vector<Credential>> find(std::size_t i, const CredentialQuery& query) const;

 private:
  const std::vector<Place> places_;
  mutable Mutex mu_;
  mutable std::vector<std::string> reasons_ IMSY_GUARDED_BY(mu_);  // by place, the last one
};

}  // namespace imsy::oci
