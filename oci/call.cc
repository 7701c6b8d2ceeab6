#include "oci/call.h"

#include <algorithm>
#include <charconv>
#include <ctime>
#include <future>

#include "oci/base64.h"
#include "oci/descriptor.h"
#include "oci/json.h"

namespace imsy::oci {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr unsigned kRedirectsMax = 5;
constexpr unsigned kTriesMax = 5;
constexpr unsigned kChallengesMax = 2;  // none yet; the one we had has expired
constexpr std::size_t kTargetsMax = 1024;
constexpr milliseconds kBackOffFirst{200};
constexpr milliseconds kWaitMax{30'000};
constexpr std::uint64_t kTokenAnswerLimit = 1u << 20;
constexpr seconds kTokenLifetimeDefault{60};  // distribution token specification
constexpr seconds kTokenLifetimeMax{3600};
constexpr seconds kTokenMargin{5};

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool is_overload(int status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

bool is_transient(Errc code) {
  return code == Errc::kUnavailable || code == Errc::kTimeout;
}

// Seconds or a date (RFC 9110, 10.2.3), clamped; zero when absent or nonsense.
milliseconds retry_after(const HttpResponse& response) {
  const std::string value = response.header("retry-after");
  long long count = 0;
  const auto [end, failed] = std::from_chars(value.data(), value.data() + value.size(), count);
  if (failed == std::errc::result_out_of_range) return kWaitMax;
  if (failed != std::errc() || end != value.data() + value.size()) {
    std::tm date{};
    if (::strptime(value.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date) == nullptr) return {};
    count = ::timegm(&date) - std::time(nullptr);
  }
  return milliseconds(std::clamp<long long>(count, 0, kWaitMax.count() / 1000) * 1000);
}

std::string percent_encode(std::string_view text) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || std::string_view("-._~").find(c) != std::string_view::npos) {
      encoded += c;
    } else {
      encoded += '%';
      encoded += kDigits[byte >> 4];
      encoded += kDigits[byte & 15];
    }
  }
  return encoded;
}

bool is_inner_address(std::string_view address) {
  return address.starts_with("127.") || address == "::1" || address.starts_with("169.254.") ||
         address.starts_with("0.") || address == "::" || address.starts_with("fe8") ||
         address.starts_with("fe9") || address.starts_with("fea") || address.starts_with("feb") ||
         address.starts_with("::ffff:127.") || address.starts_with("::ffff:169.254.");
}

const Challenge* find_scheme(const std::vector<Challenge>& challenges, std::string_view scheme) {
  for (const auto& challenge : challenges) {
    if (challenge.scheme == scheme) return &challenge;
  }
  return nullptr;
}

std::string parameter(const Challenge& challenge, const std::string& name) {
  const auto found = challenge.parameters.find(name);
  return found == challenge.parameters.end() ? std::string() : found->second;
}

std::string basic(const Credential& credential) {
  return "Basic " + base64_encode(as_bytes(credential.username + ":" + credential.password));
}

}  // namespace

struct Caller::Call {
  HttpRequest request;
  CallPolicy policy;
  Done done;
  Url first;   // where the request was meant to go
  Url target;  // where it goes now
  unsigned redirects = 0;
  unsigned tries = 0;
  unsigned challenges = 0;
  bool from_memory = false;   // target was remembered, not told by the registry just now
  bool body_started = false;  // on_body has seen something
};

Caller::Caller(HttpClient& http, Url endpoint, const RegistryOptions& options)
    : http_(http),
      endpoint_(std::move(endpoint)),
      repository_(options.repository),
      scope_("repository:" + options.repository + (options.push ? ":pull,push" : ":pull")),
      credential_host_(options.credential_host),
      credentials_(options.credentials) {}

std::string Caller::url(const std::string& path) const {
  return endpoint_.text + "/v2/" + repository_ + "/" + path;
}

bool Caller::used_credential() const {
  MutexLock lock(mu_);
  return used_credential_;
}

void Caller::send(HttpRequest request, const CallPolicy& policy, Done done) {
  auto call = std::make_shared<Call>();
  auto target = parse_url(request.url);
  if (!target) return done(target.error());
  call->first = call->target = std::move(*target);
  call->request = std::move(request);
  call->policy = policy;
  call->done = std::move(done);
  if (policy.remember_target) {
    MutexLock lock(mu_);
    if (const auto known = targets_.find(call->first.text); known != targets_.end()) {
      call->target = known->second;
      call->from_memory = true;
    }
  }
  attempt(call);
}

Result<HttpResponse> Caller::perform(HttpRequest request, const CallPolicy& policy) {
  auto answer = std::make_shared<std::promise<Result<HttpResponse>>>();
  auto future = answer->get_future();
  send(std::move(request), policy,
       [answer](Result<HttpResponse> result) { answer->set_value(std::move(result)); });
  return future.get();
}

void Caller::attempt(const CallPtr& call) {
  HttpRequest request = call->request;
  request.url = call->target.text;
  const bool at_registry = call->target.origin() == endpoint_.origin();
  if (at_registry) {
    std::vector<Challenge> expired;
    {
      MutexLock lock(mu_);
      if (!authorization_.empty() && steady_clock::now() >= expires_) expired = challenges_;
      if (expired.empty() && !authorization_.empty()) {
        request.headers.emplace_back("Authorization", authorization_);
      }
    }
    if (!expired.empty()) return authenticate(call, std::move(expired));
  } else {
    request.allow_address = [self = shared_from_this()](std::string_view address) {
      return self->address_allowed(address);
    };
  }
  if (call->request.on_body) {
    request.on_body = [call](ByteSpan piece) {
      call->body_started = true;
      return call->request.on_body(piece);
    };
  }
  // An error of on_headers is for the answer that is asked for, not for a redirect on the way.
  if (call->request.on_headers) {
    request.on_headers = [call](const HttpResponse& response) {
      return response.status / 100 == 2 ? call->request.on_headers(response) : Status();
    };
  }
  http_.start(std::move(request), [self = shared_from_this(), call](Result<HttpResponse> result) {
    self->answered(call, std::move(result));
  });
}

void Caller::answered(const CallPtr& call, Result<HttpResponse> result) {
  if (!result) {
    if (is_transient(result.error().code()) && try_again(call, {})) return;
    return call->done(std::move(result));
  }
  const HttpResponse& response = *result;
  const bool at_registry = call->target.origin() == endpoint_.origin();
  if (at_registry) {
    MutexLock lock(mu_);
    registry_address_ = response.peer_address;
  }
  if (response.status == 401 && at_registry && call->challenges < kChallengesMax) {
    ++call->challenges;
    std::vector<Challenge> challenges;
    for (const auto& value : response.header_values("www-authenticate")) {
      for (auto& challenge : parse_challenges(value)) challenges.push_back(std::move(challenge));
    }
    return authenticate(call, std::move(challenges));
  }
  const bool readable = call->request.method == "GET" || call->request.method == "HEAD";
  if (is_redirect(response.status) && readable) return follow(call, response);
  if (is_overload(response.status) && try_again(call, retry_after(response))) return;
  if (response.status / 100 == 4 && call->from_memory) {
    call->from_memory = false;  // the place it remembered is no more: ask the registry again
    call->target = call->first;
    call->redirects = 0;
    {
      MutexLock lock(mu_);
      targets_.erase(call->first.text);
    }
    return attempt(call);
  }
  call->done(std::move(result));
}

void Caller::follow(const CallPtr& call, const HttpResponse& response) {
  const auto refuse = [&](const std::string& why) {
    call->done(Error(Errc::kInvalid, call->target.shown() + " redirects " + why));
  };
  if (++call->redirects > kRedirectsMax) return refuse("more than 5 times");
  auto next = resolve_url(call->target, response.header("location"));
  if (!next) return refuse("to a place that is not followed: " + next.error().message());
  if (call->target.scheme == "https" && next->scheme != "https") return refuse("to plain http");
  call->target = std::move(*next);
  if (call->policy.remember_target) {
    MutexLock lock(mu_);
    if (targets_.size() >= kTargetsMax) targets_.clear();
    targets_.insert_or_assign(call->first.text, call->target);
  }
  attempt(call);
}

bool Caller::try_again(const CallPtr& call, milliseconds at_least) {
  if (!call->policy.repeat || call->body_started || ++call->tries > kTriesMax) return false;
  http_.call_after(std::max(at_least, back_off(call->tries)),
                   [self = shared_from_this(), call] { self->attempt(call); });
  return true;
}

// Doubles with each try; half of it is random, so that many clients do not come back together.
milliseconds Caller::back_off(unsigned tries) {
  const auto whole = std::min(kWaitMax, kBackOffFirst * (1u << std::min(tries - 1, 10u)));
  MutexLock lock(mu_);
  std::uniform_int_distribution<long> part(whole.count() / 2, whole.count());
  return milliseconds(part(random_));
}

void Caller::authenticate(const CallPtr& call, std::vector<Challenge> challenges) {
  {
    MutexLock lock(mu_);
    waiting_.push_back(call);
    if (refreshing_) return;
    refreshing_ = true;
    challenges_ = challenges;
  }
  // A credential helper may take its time.
  http_.run_aside([self = shared_from_this(), challenges = std::move(challenges)]() mutable {
    self->with_credential(std::move(challenges));
  });
}

void Caller::with_credential(std::vector<Challenge> challenges) {
  auto credential = credentials_.find(credential_host_);
  if (!credential) return settle(credential.error());
  if (const Challenge* bearer = find_scheme(challenges, "bearer")) {
    return request_token(*bearer, *credential);
  }
  if (find_scheme(challenges, "basic") == nullptr) {
    return settle(Error(Errc::kDenied, endpoint_.origin() + " asks for an authentication that is "
                                                            "neither basic nor bearer"));
  }
  if (!*credential || (*credential)->username.empty()) {
    return settle(Error(Errc::kDenied, "no credential for " + credential_host_ +
                                           ": log in, or add it to docker's config.json"));
  }
  {
    MutexLock lock(mu_);
    authorization_ = basic(**credential);
    expires_ = steady_clock::time_point::max();
    used_credential_ = true;
  }
  settle({});
}

void Caller::request_token(const Challenge& challenge,
                           const std::optional<Credential>& credential) {
  auto realm = parse_url(parameter(challenge, "realm"));
  if (!realm) return settle(realm.error().with_context("token realm of " + endpoint_.origin()));
  if (endpoint_.scheme == "https" && realm->scheme != "https") {
    return settle(Error(Errc::kDenied, "the token realm of an https registry must be https"));
  }
  const std::string service = parameter(challenge, "service");
  HttpRequest request;
  request.body_limit = kTokenAnswerLimit;
  request.total_timeout = milliseconds(30'000);
  if (realm->origin() != endpoint_.origin()) {
    request.allow_address = [self = shared_from_this()](std::string_view address) {
      return self->address_allowed(address);
    };
  }
  if (credential && !credential->identity_token.empty()) {
    const std::string form =
        "grant_type=refresh_token&client_id=imsy&service=" + percent_encode(service) +
        "&scope=" + percent_encode(scope_) +
        "&refresh_token=" + percent_encode(credential->identity_token);
    const auto bytes = as_bytes(form);
    request.method = "POST";
    request.url = realm->text;
    request.headers.emplace_back("Content-Type", "application/x-www-form-urlencoded");
    request.body = std::make_shared<const Bytes>(bytes.begin(), bytes.end());
  } else {
    request.url = with_query(with_query(realm->text, "service", service), "scope", scope_);
    if (credential && !credential->empty()) {
      request.headers.emplace_back("Authorization", basic(*credential));
    }
  }
  if (credential && !credential->empty()) {
    MutexLock lock(mu_);
    used_credential_ = true;
  }
  http_.start(std::move(request), [self = shared_from_this()](Result<HttpResponse> result) {
    self->token_answered(std::move(result));
  });
}

void Caller::token_answered(Result<HttpResponse> result) {
  const std::string what = "token for " + endpoint_.origin() + "/" + repository_;
  if (!result) return settle(result.error().with_context(what));
  if (result->status != 200) return settle(status_error(*result, what));
  auto json = parse_json(as_text(result->body), what);
  if (!json) return settle(json.error());
  std::string token;
  for (const char* name : {"token", "access_token"}) {
    const auto found = json->is_object() ? json->find(name) : json->end();
    if (token.empty() && found != json->end() && found->is_string()) {
      token = found->get<std::string>();
    }
  }
  const bool printable =
      std::all_of(token.begin(), token.end(), [](unsigned char c) { return c > 0x20 && c < 0x7f; });
  if (token.empty() || !printable) {
    return settle(Error(Errc::kInvalid, what + ": the answer holds no token"));
  }
  seconds lifetime = kTokenLifetimeDefault;
  if (const auto found = json->find("expires_in");
      found != json->end() && found->is_number_unsigned()) {
    lifetime = seconds(std::clamp<std::uint64_t>(
        found->get<std::uint64_t>(), 1, static_cast<std::uint64_t>(kTokenLifetimeMax.count())));
  }
  {
    MutexLock lock(mu_);
    authorization_ = "Bearer " + token;
    // Asked anew a little early, but a short-lived token is used for most of its life.
    expires_ = steady_clock::now() + lifetime - std::min(kTokenMargin, lifetime / 4);
  }
  settle({});
}

void Caller::settle(Status outcome) {
  std::vector<CallPtr> waiting;
  {
    MutexLock lock(mu_);
    refreshing_ = false;
    waiting.swap(waiting_);
    if (!outcome) authorization_.clear();
  }
  for (const auto& call : waiting) {
    if (outcome) {
      attempt(call);
    } else {
      call->done(outcome.error());
    }
  }
}

bool Caller::address_allowed(std::string_view address) const {
  if (!is_inner_address(address)) return true;
  MutexLock lock(mu_);
  return is_inner_address(registry_address_);
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
  std::string message = what + ": the registry answers " + std::to_string(response.status);
  if (const auto json = parse_json(as_text(response.body), "error"); json && json->is_object()) {
    const auto errors = json->find("errors");
    if (errors != json->end() && errors->is_array() && !errors->empty() &&
        errors->front().is_object()) {
      const auto error_code = errors->front().find("code");
      if (error_code != errors->front().end() && error_code->is_string()) {
        std::string text = error_code->get<std::string>().substr(0, 64);
        std::erase_if(text, [](unsigned char c) { return std::isalnum(c) == 0 && c != '_'; });
        message += " (" + text + ")";
      }
    }
  }
  return Error(code, message);
}

}  // namespace imsy::oci
