// Credentials: where the login for a registry is looked up.
//
// docker's configuration (oci/auth.h) is one such place. No credential is ever logged, put into an
// error message, or handed to a host it was not meant for.
// Threads: find() from any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/result.h"

namespace imsy::oci {

struct Credential {
  std::string username;
  std::string password;
  std::string identity_token;  // OAuth2 refresh token, instead of a password
  bool empty() const { return username.empty() && identity_token.empty(); }
};

class Credentials {
 public:
  virtual ~Credentials() = default;

  // What to show `host` (with its port, as in references; Docker Hub is "docker.io"); nullopt when
  // there is nothing for it. Asked anew for every login. May wait for the disk or another program.
  virtual Result<std::optional<Credential>> find(std::string_view host) const = 0;
};

}  // namespace imsy::oci
