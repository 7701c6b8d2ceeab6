// Calls: requests to one repository of a registry, with authentication, redirects and retries.
// Internal to oci; registry.cc says what is asked, this says how it gets there.
//
// Promises
//   * A credential is sent to the registry's origin and to the token realm it names, never to the
//     target of a redirect or to another origin. An https registry's realm must be https.
//   * At most 5 redirects, http and https only, never from https to http. Addresses of loopback and
//     link-local networks are refused unless the registry itself is at such an address.
//   * Where a request may be repeated, 429, 502, 503, 504 and broken connections are, at most 5
//     times, with jittered back-off; Retry-After is obeyed up to 30 s.
//   * A call whose body was given to on_body in part is not repeated: the caller knows where it
//   was.
// Threads: send() from any thread, never waits; `done` runs once, on the HTTP client's thread.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "oci/auth.h"
#include "oci/http.h"
#include "oci/registry.h"
#include "oci/url.h"

namespace imsy::oci {

struct CallPolicy {
  bool repeat = true;            // the request may be sent again
  bool remember_target = false;  // begin at the place that the last redirect of this URL led to
};

class Caller : public std::enable_shared_from_this<Caller> {
 public:
  using Done = HttpClient::Done;

  Caller(HttpClient& http, Url endpoint, const RegistryOptions& options);

  void send(HttpRequest request, const CallPolicy& policy, Done done);
  // send() and wait. Not from the HTTP client's thread.
  Result<HttpResponse> perform(HttpRequest request, const CallPolicy& policy = {});

  // The URL of `path` below /v2/<repository>/.
  std::string url(const std::string& path) const;
  const Url& endpoint() const { return endpoint_; }
  bool used_credential() const;
  HttpClient& http() { return http_; }

 private:
  struct Call;
  using CallPtr = std::shared_ptr<Call>;

  void attempt(const CallPtr& call);
  void answered(const CallPtr& call, Result<HttpResponse> result);
  void follow(const CallPtr& call, const HttpResponse& response);
  bool try_again(const CallPtr& call, std::chrono::milliseconds at_least);
  std::chrono::milliseconds back_off(unsigned tries);

  // Gets an authorization that answers `challenges`, then attempts the call again.
  void authenticate(const CallPtr& call, std::vector<Challenge> challenges);
  void with_credential(std::vector<Challenge> challenges);
  void request_token(const Challenge& challenge, const std::optional<Credential>& credential);
  void token_answered(Result<HttpResponse> result);
  void settle(Status outcome);  // of the refresh in flight
  bool address_allowed(std::string_view address) const;

  HttpClient& http_;
  const Url endpoint_;
  const std::string repository_;
  const std::string scope_;
  const std::string credential_host_;
  const DockerConfig credentials_;

  mutable Mutex mu_;
  std::string authorization_ IMSY_GUARDED_BY(mu_);  // value of the header; empty: none
  std::chrono::steady_clock::time_point expires_ IMSY_GUARDED_BY(mu_) =
      std::chrono::steady_clock::time_point::max();
  std::vector<Challenge> challenges_ IMSY_GUARDED_BY(mu_);  // that the authorization answers
  std::vector<CallPtr> waiting_ IMSY_GUARDED_BY(mu_);       // for the refresh in flight
  bool refreshing_ IMSY_GUARDED_BY(mu_) = false;
  bool used_credential_ IMSY_GUARDED_BY(mu_) = false;
  std::string registry_address_ IMSY_GUARDED_BY(mu_);
  std::map<std::string, Url> targets_ IMSY_GUARDED_BY(mu_);
  std::minstd_rand random_ IMSY_GUARDED_BY(mu_){std::random_device{}()};
};

// What a status other than the expected ones means.
Error status_error(const HttpResponse& response, const std::string& what);

}  // namespace imsy::oci
