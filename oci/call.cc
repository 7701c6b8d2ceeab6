#include "oci/call.h"

#include <algorithm>
#include <ctime>
#include <future>
#include <utility>

#include "common/digest.h"
#include "oci/descriptor.h"

namespace imsy::oci {
namespace {

using std::chrono::milliseconds;

constexpr unsigned kRedirectsMax = 5;
constexpr unsigned kChallengesMax = 2;  // nothing was sent yet; what was sent has expired
constexpr unsigned kLoginsMax = 6;      // as long as there are other credentials to try
constexpr std::size_t kTargetsMax = 1024;
constexpr std::size_t kReasonLimit = 200;

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// Whether the method survives the redirect; the other ones turn into GET in many clients.
bool may_follow(const HttpRequest& request, int status) {
  return request.method == "GET" || request.method == "HEAD" || status == 307 || status == 308;
}

// The registry's own words about a failure: the first of the "errors" in its answer.
std::string reason_in(const HttpResponse& response) {
  const auto json = parse_json(as_text(response.body), "error");
  if (!json || !json->is_object()) return {};
  const auto errors = json->find("errors");
  if (errors == json->end() || !errors->is_array() || errors->empty()) return {};
  const Json& first = errors->front();
  if (!first.is_object()) return {};
  std::string reason;
  for (const char* key : {"code", "message"}) {
    const auto field = first.find(key);
    if (field == first.end() || !field->is_string()) continue;
    reason += (reason.empty() ? "" : ": ") + field->get<std::string>();
  }
  std::erase_if(reason, [](char c) { return c < ' ' || c > '~'; });
  return reason.substr(0, kReasonLimit);
}

// How requests are counted: by repository, and by server where that is no registry.
std::string place_of(const Url& root, const RegistryOptions& options) {
  if (options.repository.empty()) return root.origin();
  const Host& host = options.host;
  const std::string place = host.root + "/" + options.repository;
  return host.name_space.empty() ? place : place + " for " + host.name_space;
}

std::shared_ptr<const Tls> tls_towards(const Host& host) {
  return host.tls == Tls() ? nullptr : std::make_shared<const Tls>(host.tls);
}

// Towards other servers, where the host has led us.
std::shared_ptr<const Tls> tls_beyond(const Host& host) {
  if (host.tls.authorities.empty()) return nullptr;
  Tls tls;
  tls.authorities = host.tls.authorities;
  return std::make_shared<const Tls>(std::move(tls));
}

}  // namespace

struct Caller::Call {
  HttpRequest request;
  CallPolicy policy;
  Done done;  // empty once it was called

  Url first;                          // where the request was meant to go
  Url target;                         // where it goes now
  std::string authorization;          // what it carried last
  std::string identity;               // what was shown for it; as Caller::identity()
  HttpClient::RequestId running = 0;  // 0: waits for a timer or an authorization
  unsigned redirects = 0;
  unsigned retries = 0;
  unsigned challenges = 0;
  bool from_memory = false;      // target was remembered, not told by the registry just now
  bool returned_home = false;    // was refused elsewhere and came back to the registry
  bool body_started = false;     // on_body has seen something
  std::optional<Error> failure;  // the last one
};

std::shared_ptr<Caller> Caller::create(HttpClient& http, Url root, const RegistryOptions& options) {
  const std::shared_ptr<Caller> caller(new Caller(http, std::move(root), options));
  AuthorizerOptions authorizer;
  authorizer.endpoint = caller->root_;
  authorizer.repository = options.repository;
  authorizer.credential_name = options.host.name();
  authorizer.headers = options.host.headers;
  authorizer.credentials = options.credentials;
  authorizer.tls = caller->tls_;
  authorizer.tls_away = caller->tls_away_;
  authorizer.push = options.push;
  authorizer.first_retry_delay = options.first_retry_delay;
  authorizer.patient = options.patient;
  authorizer.counts = caller->counts_;
  authorizer.allow_address = [weak = std::weak_ptr(caller)](std::string_view address) {
    const auto self = weak.lock();
    return self && may_lead_to(self->network_, network_of(address));
  };
  caller->authorizer_ = std::make_shared<Authorizer>(http, std::move(authorizer));
  return caller;
}

std::shared_ptr<Caller> Caller::create_anonymous(HttpClient& http, Url root) {
  return std::shared_ptr<Caller>(new Caller(http, std::move(root), RegistryOptions()));
}

Caller::Caller(HttpClient& http, Url root, const RegistryOptions& options)
    : http_(http),
      root_(std::move(root)),
      host_(options.host),
      tls_(tls_towards(host_)),
      tls_away_(tls_beyond(host_)),
      repository_(options.repository),
      first_retry_delay_(options.first_retry_delay),
      patient_(options.patient),
      counts_(http.traffic().at(place_of(root_, options))),
      backoff_(options.first_retry_delay) {}

std::string Caller::identity() const {
  const std::string credential = authorizer_ ? authorizer_->identity() : std::string();
  if (credential.empty() && !host_.shows_identity()) return {};
  std::string all = credential;
  const auto add = [&](const std::string& part) {
    all += std::to_string(part.size()) + ":" + part;
  };
  for (const auto& [name, value] : host_.headers) {
    add(name);
    add(value);
  }
  add(host_.tls.certificate);
  return sha256(all).hex();
}

std::string Caller::url(const std::string& path) const {
  std::string url = host_.root + "/" + repository_ + "/" + path;
  if (!host_.name_space.empty()) url = with_query(std::move(url), "ns", host_.name_space);
  return url;
}

std::shared_ptr<Caller::Call> Caller::send(HttpRequest request, const CallPolicy& policy,
                                           Done done) {
  auto call = std::make_shared<Call>();
  call->request = std::move(request);
  call->policy = policy;
  call->done = std::move(done);
  http_.call_after(milliseconds(0), [self = shared_from_this(), call] { self->begin(call); });
  return call;
}

void Caller::cancel(const std::shared_ptr<Call>& call) {
  http_.call_after(milliseconds(0), [self = shared_from_this(), call] {
    if (call->running != 0) self->http_.cancel(call->running);
    finish(call, Error(Errc::kCancelled,
                       call->request.method + " " + call->first.shown() + ": cancelled"));
  });
}

Result<HttpResponse> Caller::perform(HttpRequest request, const CallPolicy& policy) {
  auto answer = std::make_shared<std::promise<Result<HttpResponse>>>();
  auto future = answer->get_future();
  send(std::move(request), policy,
       [answer](Result<HttpResponse> result) { answer->set_value(std::move(result)); });
  return future.get();
}

void Caller::finish(const CallPtr& call, Result<HttpResponse> result) {
  if (const Done done = std::exchange(call->done, nullptr)) done(std::move(result));
}

bool Caller::at_registry(const Call& call) const {
  return call.target.origin() == root_.origin();
}

// Starts from where the request was meant to go, or from where that led the last time.
void Caller::begin(const CallPtr& call) {
  auto first = parse_url(call->request.url);
  if (!first) return finish(call, first.error());
  call->first = call->target = std::move(*first);
  call->redirects = 0;
  call->from_memory = false;
  // Where a redirect led was for whoever was shown then.
  call->identity = identity();
  if (call->identity != targets_identity_) targets_.clear();
  if (call->policy.remember_target) {
    if (const auto known = targets_.find(call->first.text); known != targets_.end()) {
      call->target = known->second;
      call->from_memory = true;
    }
  }
  attempt(call);
}

void Caller::attempt(const CallPtr& call) {
  if (!call->done) return;  // cancelled meanwhile
  const auto health = http_.health(call->target.origin());
  const auto now = Clock::now();
  if (!patient_ && !health->admit(now)) return turned_away(call);
  if (const auto then = health->not_before(); now < then) {
    http_.call_after(std::chrono::ceil<milliseconds>(then - now),
                     [self = shared_from_this(), call] { self->attempt(call); });
    return;
  }
  if (!at_registry(*call) || !authorizer_) return transmit(call, std::string());
  authorizer_->header(transmit_later(call));
}

// The server is ailing. At a remembered place the registry may know another one.
void Caller::turned_away(const CallPtr& call) {
  forget_target_of(*call);
  if (call->from_memory && return_home(call)) return;
  if (call->failure) return finish(call, *call->failure);
  finish(call, Error(Errc::kUnavailable,
                     call->request.method + " " + call->target.shown() +
                         ": not asked now, as it has not answered lately or is busy"));
}

void Caller::transmit(const CallPtr& call, const Result<std::string>& authorization) {
  if (!call->done) return;
  if (!authorization) return finish(call, authorization.error());
  call->authorization = *authorization;
  if (at_registry(*call)) call->identity = identity();
  call->running = http_.start(request_for(call, *authorization),
                              [self = shared_from_this(), call](Result<HttpResponse> result) {
                                call->running = 0;
                                if (call->done) self->answered(call, std::move(result));
                              });
}

HttpRequest Caller::request_for(const CallPtr& call, const std::string& authorization) {
  HttpRequest request = call->request;
  request.url = call->target.text;
  request.counts = counts_;
  request.purpose = call->policy.purpose;
  if (!authorization.empty()) request.headers.emplace_back("Authorization", authorization);
  request.tls = at_registry(*call) ? tls_ : tls_away_;
  if (at_registry(*call)) {
    request.connect_timeout = host_.connect_timeout;
    add_headers(request, host_.headers);  // what the request says itself wins
  } else {
    request.allow_address = [self = shared_from_this()](std::string_view address) {
      return may_lead_to(self->network_, network_of(address));
    };
  }
  if (call->request.on_headers) {
    request.on_headers = [self = shared_from_this(), call](const HttpResponse& response) -> Status {
      if (response.status / 100 != 2) return {};
      // Who is told of the bytes asks identity() whose they are.
      if (self->identity() != call->identity) {
        return Error(Errc::kUnavailable, "another credential came into use meanwhile");
      }
      return call->request.on_headers(response);
    };
  }
  if (call->request.on_body) {
    request.on_body = [call](ByteSpan piece) -> Status {
      if (!call->done) return Error(Errc::kCancelled, "nobody waits for it any more");
      call->body_started = true;
      return call->request.on_body(piece);
    };
  }
  return request;
}

void Caller::answered(const CallPtr& call, Result<HttpResponse> result) {
  if (!result) {
    call->failure = result.error();
    forget_target_of(*call);
    if (is_transient(result.error().code()) && try_again(call, milliseconds(0))) return;
    if (call->from_memory && return_home(call)) return;
    return finish(call, std::move(result));
  }
  const HttpResponse& response = *result;
  if (at_registry(*call)) network_ = network_of(response.peer_address);
  const bool may_authorize = authorizer_ && at_registry(*call);
  const bool others = may_authorize && call->challenges < kLoginsMax && authorizer_->another_left();
  if (response.status == 401 && may_authorize && (others || call->challenges < kChallengesMax)) {
    return refused(call, response);
  }
  if (response.status == 403 && others) return refused(call, response);
  if (is_redirect(response.status) && may_follow(call->request, response.status)) {
    return follow(call, response);
  }
  if (response.status / 100 != 2) forget_target_of(*call);
  if (is_busy(response.status)) {
    if (try_again(call, retry_after(response.header("retry-after"), std::time(nullptr)))) return;
  } else if (response.status / 100 == 4 && return_home(call)) {
    return;
  } else if (response.status / 100 == 5 && call->from_memory && return_home(call)) {
    return;
  } else if (response.status / 100 == 2) {
    const auto size = call->policy.body_size;
    if (size && response.body.size() != *size) {
      forget_target_of(*call);
      if (try_again(call, milliseconds(0))) return;
      return finish(call,
                    Error(Errc::kUnavailable, call->request.method + " " + call->target.shown() +
                                                  ": the answer came incomplete"));
    }
    remember(call);
  }
  finish(call, std::move(result));
}

void Caller::refused(const CallPtr& call, const HttpResponse& response) {
  ++call->challenges;
  if (response.status == 403) {
    authorizer_->forbidden(call->authorization, transmit_later(call));
  } else {
    authorizer_->challenged(response, call->authorization, transmit_later(call));
  }
}

Authorizer::Ready Caller::transmit_later(const CallPtr& call) {
  return [self = shared_from_this(), call](const Result<std::string>& value) {
    self->transmit(call, value);
  };
}

void Caller::follow(const CallPtr& call, const HttpResponse& response) {
  const auto refuse = [&](Errc code, const std::string& why) {
    finish(call,
           Error(code, call->request.method + " " + call->target.shown() + ": redirected " + why));
  };
  if (++call->redirects > kRedirectsMax) return refuse(Errc::kInvalid, "more than 5 times");
  auto next = resolve_url(call->target, response.header("location"));
  if (!next)
    return refuse(Errc::kDenied, "to a place that is not followed: " + next.error().message());
  if (call->target.scheme == "https" && next->scheme != "https") {
    return refuse(Errc::kDenied, "from https to plain http, which is not followed");
  }
  call->target = std::move(*next);
  attempt(call);
}

bool Caller::try_again(const CallPtr& call, milliseconds at_least) {
  const bool may = patient_ && call->policy.repeat && !call->body_started;
  if (!may || call->retries == kRetriesMax) return false;
  ++call->retries;
  http_.call_after(std::max(at_least, backoff_.delay(call->retries)),
                   [self = shared_from_this(), call] {
                     if (call->done) self->begin(call);
                   });
  return true;
}

// A signed URL of a storage service expires; the registry then gives another one.
bool Caller::return_home(const CallPtr& call) {
  const bool away = call->target.text != call->first.text;
  if (!away || call->returned_home || call->body_started) return false;
  call->returned_home = true;
  begin(call);
  return true;
}

void Caller::forget_target_of(const Call& call) {
  if (call.target.text != call.first.text) targets_.erase(call.first.text);
}

void Caller::forget_target(const std::string& url) {
  http_.call_after(milliseconds(0), [self = shared_from_this(), url] {
    if (const auto parsed = parse_url(url)) self->targets_.erase(parsed->text);
  });
}

void Caller::remember(const CallPtr& call) {
  if (!call->policy.remember_target || call->target.text == call->first.text) return;
  if (targets_.size() >= kTargetsMax || targets_identity_ != call->identity) targets_.clear();
  targets_identity_ = call->identity;
  targets_.insert_or_assign(call->first.text, call->target);
}

Error status_error(const HttpResponse& response, const std::string& what) {
  Errc code = Errc::kInvalid;
  switch (response.status) {
    case 401:
    case 403: code = Errc::kDenied; break;
    case 404: code = Errc::kNotFound; break;
    case 408: code = Errc::kTimeout; break;
    case 429: code = Errc::kUnavailable; break;
    default:
      if (response.status >= 500) code = Errc::kUnavailable;
      break;
  }
  std::string message = what + ": the server answers " + std::to_string(response.status);
  if (const std::string reason = reason_in(response); !reason.empty()) {
    message += " (" + reason + ")";
  }
  return Error(code, message);
}

}  // namespace imsy::oci
