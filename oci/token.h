// Authorizer: how one repository of a registry is shown that we may use it.
// Internal to oci; call.cc asks for a header before each request and after each refusal.
//
// Promises
//   * One look-up or token request is in flight at a time, whoever waits for it.
//   * A credential goes to the registry it is for (basic) or to the realm that this registry names
//     (bearer). The realm must be https unless the registry itself is plain http, must not be a
//     bare address unless it is the registry's own, and is connected to only where the registry may
//     lead us.
//   * Credentials are read anew for every token, so that a changed one is used. One that is refused
//     is followed by the next of its place, those by the next place's, and at a token realm at last
//     by none at all.
// Source: RFC 7235, RFC 7617, distribution token specification (docs/spec/auth/token.md, oauth.md).
// Threads: header(), challenged(), another_left() and forbidden() on the HTTP client's thread only;
// they never wait, and call `ready` there, perhaps at once. identity() from any thread.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "oci/auth.h"
#include "oci/credentials.h"
#include "oci/http.h"
#include "oci/retry.h"
#include "oci/url.h"

namespace imsy::oci {

struct AuthorizerOptions {
  Url endpoint;  // only its origin matters
  std::string repository;
  std::string credential_name;
  std::vector<std::pair<std::string, std::string>> headers;  // for a realm at the registry
  std::shared_ptr<const CredentialPlaces> credentials;
  std::shared_ptr<const Tls> tls;       // for a realm at the registry
  std::shared_ptr<const Tls> tls_away;  // for one elsewhere
  bool push = false;
  std::chrono::milliseconds first_retry_delay{200};
  bool patient = true;  // tries a token server again that is busy or away
  std::shared_ptr<PlaceCounts> counts = {};
  std::function<bool(std::string_view address)> allow_address;
  std::function<std::chrono::steady_clock::time_point()> now = &std::chrono::steady_clock::now;
};

class Authorizer : public std::enable_shared_from_this<Authorizer> {
 public:
  // The value of an Authorization header, "" when none is needed.
  using Ready = std::function<void(Result<std::string>)>;

  Authorizer(HttpClient& http, AuthorizerOptions options);

  // What to send with the next request, as far as it is known what the registry wants.
  void header(Ready ready);
  // The registry answered 401 to a request that carried `used`. kDenied: nothing else can be tried.
  void challenged(const HttpResponse& response, const std::string& used, Ready ready);
  // Whether there may be a credential that is neither the one in use nor refused.
  bool another_left() const;
  // The registry answered 403 to a request that carried `used`, and there is another one.
  void forbidden(const std::string& used, Ready ready);

  // Of the credential that was sent to anybody last, a hash; "": none was. From any thread.
  std::string identity() const;

 private:
  using Clock = std::chrono::steady_clock;
  enum class Scheme { kNone, kBasic, kBearer };

  bool accept_challenge(const Challenge& challenge);
  void add_scope(std::string_view scope);
  std::vector<std::string> scopes() const;
  bool valid() const;

  void refresh(Ready ready);
  void ask_next_place();
  void place_answered(Result<std::vector<Credential>> found);
  const Credential* find_usable(bool also_refused) const;
  bool is_usable(const Credential& credential) const;
  void refuse_used();
  void use_next();
  void use(const Credential& credential);
  Error no_credential() const;
  Status check_realm() const;
  HttpRequest token_request(const Credential& credential) const;
  void request_token(const HttpRequest& request, unsigned retries);
  Status take_token(const HttpResponse& response, Clock::time_point asked);
  void settle(const Status& outcome);
  void showed(const Credential& credential);

  HttpClient& http_;
  const AuthorizerOptions options_;
  mutable Mutex mu_;
  std::string identity_ IMSY_GUARDED_BY(mu_);

  // Only on the HTTP client's thread.
  Backoff backoff_;
  Scheme scheme_ = Scheme::kNone;
  std::string realm_text_;
  Url realm_;
  std::string service_;
  std::map<std::string, std::set<std::string>> scopes_;  // resource -> actions
  std::string value_;                                    // of the header
  std::vector<Credential> found_;                        // what there is to show, in order
  std::size_t places_asked_ = 0;                         // where that comes from
  std::optional<Error> places_failure_;                  // why there may be more than was found
  std::set<std::string> refused_;                        // hashes of those that did not help
  std::string used_;                                     // hash of the one in use
  Clock::time_point renew_at_ = Clock::time_point::max();
  bool refreshing_ = false;
  bool tried_ = false;      // something of what was found, since refreshing began
  bool forbidden_ = false;  // what is refused was understood: the same again does not help
  std::vector<Ready> waiting_;
};

}  // namespace imsy::oci
