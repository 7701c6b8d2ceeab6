// Caller: requests to one repository of a registry, with authorization, redirects and retries.
// Internal to oci; registry.cc says what is asked, this says how it gets there.
//
// Promises
//   * An Authorization header is sent to the registry's own origin only (oci/token.h sees to the
//     token realm), never to the target of a redirect or an upload location elsewhere.
//   * So are the headers and the client's certificate that the host's configuration names.
//   * At most 5 redirects in a row, http and https only, never from https to http. What lies
//     elsewhere is connected to only in networks where the registry may lead us (oci/address.h).
//   * A request that may be repeated is, at most 5 times, after 429, 502, 503, 504, a broken
//     connection or a stall: with jittered back-off, and not before Retry-After (up to 30 s), which
//     holds back every other request to the same server too, whatever the repository.
//   * Who is not patient repeats nothing, and asks no server that is ailing or wants to be left
//     alone (oci/health.h): that is answered with kUnavailable.
//   * Where a redirect led is forgotten as soon as anything fails there; the registry is then asked
//     again, once for each call.
//   * A request whose body has been given to on_body in part is not repeated: the caller knows
//     where it was.
// Threads: send(), cancel(), perform() from any thread; perform() not from the HTTP client's. All
//   else happens on the HTTP client's thread, so nothing here is locked.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "oci/address.h"
#include "oci/http.h"
#include "oci/registry.h"
#include "oci/retry.h"
#include "oci/token.h"
#include "oci/url.h"

namespace imsy::oci {

struct CallPolicy {
  bool repeat = true;            // the request may be sent again
  bool remember_target = false;  // begin where the redirects of this URL led to the last time
  // A 2xx answer whose body has another size counts as a broken connection.
  std::optional<std::uint64_t> body_size = std::nullopt;
  Purpose purpose = Purpose::kOther;
};

class Caller : public std::enable_shared_from_this<Caller> {
 public:
  using Done = HttpClient::Done;
  struct Call;  // one request in progress

  // `http` must outlive the caller; `root` is that of options.host.
  static std::shared_ptr<Caller> create(HttpClient& http, Url root, const RegistryOptions& options);
  // For a server that is no registry: it is never shown a credential, whatever it asks for.
  static std::shared_ptr<Caller> create_anonymous(HttpClient& http, Url root);

  // Never waits. `done` runs exactly once, on the HTTP client's thread; a response of any status is
  // a success. on_headers and on_body of the request see 2xx answers only.
  std::shared_ptr<Call> send(HttpRequest request, const CallPolicy& policy, Done done);
  // Ends the call with kCancelled if it is still open.
  void cancel(const std::shared_ptr<Call>& call);
  // Forgets where redirects of this URL have led.
  void forget_target(const std::string& url);
  // send() and wait.
  Result<HttpResponse> perform(HttpRequest request, const CallPolicy& policy = {});

  // The URL of `path` in the repository.
  std::string url(const std::string& path) const;
  const Url& root() const { return root_; }
  const std::string& repository() const { return repository_; }
  std::chrono::milliseconds first_retry_delay() const { return first_retry_delay_; }
  std::string identity() const;
  HttpClient& http() { return http_; }

 private:
  using Clock = std::chrono::steady_clock;
  using CallPtr = std::shared_ptr<Call>;

  Caller(HttpClient& http, Url root, const RegistryOptions& options);

  bool at_registry(const Call& call) const;
  void begin(const CallPtr& call);
  void attempt(const CallPtr& call);
  void turned_away(const CallPtr& call);
  Authorizer::Ready transmit_later(const CallPtr& call);
  void transmit(const CallPtr& call, const Result<std::string>& authorization);
  HttpRequest request_for(const CallPtr& call, const std::string& authorization);
  void answered(const CallPtr& call, Result<HttpResponse> result);
  void refused(const CallPtr& call, const HttpResponse& response);
  void follow(const CallPtr& call, const HttpResponse& response);
  bool try_again(const CallPtr& call, std::chrono::milliseconds at_least);
  bool return_home(const CallPtr& call);
  void forget_target_of(const Call& call);
  void remember(const CallPtr& call);
  static void finish(const CallPtr& call, Result<HttpResponse> result);

  HttpClient& http_;
  const Url root_;
  const Host host_;
  const std::shared_ptr<const Tls> tls_;       // towards the registry
  const std::shared_ptr<const Tls> tls_away_;  // towards where it leads us
  const std::string repository_;
  const std::chrono::milliseconds first_retry_delay_;
  const bool patient_;
  const std::shared_ptr<PlaceCounts> counts_;
  std::shared_ptr<Authorizer> authorizer_;  // constant after construction; null: anonymous

  // Only on the HTTP client's thread.
  Backoff backoff_;
  Network network_ = Network::kPublic;  // where the registry answered from
  std::map<std::string, Url> targets_;  // where redirects of an URL have led
  std::string targets_identity_;        // what was shown for that
};

// What a status other than the expected ones means, with the registry's own words if it gave some.
Error status_error(const HttpResponse& response, const std::string& what);

}  // namespace imsy::oci
