#include "oci/token.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "common/digest.h"
#include "oci/address.h"
#include "oci/base64.h"
#include "oci/call.h"
#include "oci/json.h"

namespace imsy::oci {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kTokenAnswerLimit = 256u << 10;
constexpr std::size_t kTokenLimit = 32u << 10;
constexpr std::size_t kScopesMax = 8;
constexpr std::size_t kRefusedMax = 64;
constexpr std::size_t kCandidatesMax = 16;
constexpr std::size_t kScopeLimit = 1024;
constexpr std::uint64_t kLifetimeDefault = 60;  // seconds, as the specification says
constexpr std::uint64_t kLifetimeMax = 24 * 3600;
constexpr milliseconds kMarginMax{30'000};

std::string basic(const Credential& credential) {
  return "Basic " + base64_encode(as_bytes(credential.username + ":" + credential.password));
}

std::string parameter(const Challenge& challenge, const std::string& name) {
  const auto found = challenge.parameters.find(name);
  return found == challenge.parameters.end() ? std::string() : found->second;
}

std::string form_field(const std::string& name, std::string_view value) {
  return with_query("", name, value).substr(1);
}

bool is_printable(std::string_view token) {
  return std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c <= '~'; });
}

// Length before content, so that no two lists of parts give the same bytes.
std::string hash_of(std::initializer_list<std::string_view> parts) {
  std::string all;
  for (const std::string_view part : parts)
    all += std::to_string(part.size()) + ":" + std::string(part);
  return sha256(all).hex();
}

std::string hash_of(const Credential& credential) {
  return hash_of({credential.username, credential.password, credential.identity_token,
                  credential.registry_token});
}

bool is_bare_address(const Url& url) {
  return url.host.starts_with('[') || network_of(url.host) != Network::kUnusable;
}

}  // namespace

Authorizer::Authorizer(HttpClient& http, AuthorizerOptions options)
    : http_(http), options_(std::move(options)), backoff_(options_.first_retry_delay) {
  add_scope("repository:" + options_.repository + (options_.push ? ":pull,push" : ":pull"));
}

bool Authorizer::valid() const {
  return !value_.empty() && options_.now() < renew_at_;
}

void Authorizer::header(Ready ready) {
  if (scheme_ == Scheme::kNone) return ready(std::string());
  if (valid() && !refreshing_) return ready(value_);
  refresh(std::move(ready));
}

void Authorizer::challenged(const HttpResponse& response, const std::string& used, Ready ready) {
  // Somebody else was refused as well and has got something better meanwhile.
  if (valid() && !refreshing_ && used != value_) return ready(value_);
  std::vector<Challenge> challenges;
  for (const std::string& value : response.header_values("www-authenticate")) {
    for (Challenge& challenge : parse_challenges(value)) challenges.push_back(std::move(challenge));
  }
  for (const char* scheme : {"bearer", "basic"}) {
    for (const Challenge& challenge : challenges) {
      if (challenge.scheme != scheme || !accept_challenge(challenge)) continue;
      if (!used.empty() && used == value_) refuse_used();
      return refresh(std::move(ready));
    }
  }
  ready(Error(Errc::kDenied, options_.endpoint.origin() +
                                 ": the registry asks for a login that is neither basic nor "
                                 "bearer"));
}

// False when the challenge cannot be understood.
bool Authorizer::accept_challenge(const Challenge& challenge) {
  if (challenge.scheme == "basic") {
    scheme_ = Scheme::kBasic;
    renew_at_ = Clock::time_point::max();
    return true;
  }
  std::string realm = parameter(challenge, "realm");
  if (realm.empty()) return false;
  scheme_ = Scheme::kBearer;
  realm_text_ = std::move(realm);
  service_ = parameter(challenge, "service");
  add_scope(parameter(challenge, "scope"));
  return true;
}

// A challenge may ask for more than was asked for so far; what was needed once is kept, so that two
// kinds of request do not take turns in making each other's token useless.
void Authorizer::add_scope(std::string_view scope) {
  if (scope.size() > kScopeLimit) return;
  while (!scope.empty()) {
    const std::string_view one = scope.substr(0, scope.find(' '));
    scope.remove_prefix(std::min(scope.size(), one.size() + 1));
    const std::size_t colon = one.rfind(':');
    if (colon == std::string_view::npos) continue;
    const std::string resource(one.substr(0, colon));
    if (!scopes_.contains(resource) && scopes_.size() >= kScopesMax) continue;
    std::string_view actions = one.substr(colon + 1);
    while (!actions.empty()) {
      const std::string_view action = actions.substr(0, actions.find(','));
      actions.remove_prefix(std::min(actions.size(), action.size() + 1));
      scopes_[resource].emplace(action);
    }
  }
}

std::vector<std::string> Authorizer::scopes() const {
  std::vector<std::string> list;
  for (const auto& [resource, actions] : scopes_) {
    std::string& text = list.emplace_back(resource);
    char separator = ':';
    for (const std::string& action : actions) {
      text += std::exchange(separator, ',') + action;
    }
  }
  return list;
}

void Authorizer::refresh(Ready ready) {
  waiting_.push_back(std::move(ready));
  if (std::exchange(refreshing_, true)) return;
  found_.clear();
  places_asked_ = 0;
  places_failure_.reset();
  tried_ = false;
  use_next();
}

// A credential helper may take its time.
void Authorizer::ask_next_place() {
  http_.run_aside([self = shared_from_this(), place = places_asked_++] {
    auto found = self->options_.credentials->find(
        place, {self->options_.credential_name, self->options_.repository});
    self->http_.call_after(milliseconds(0), [self, found = std::move(found)]() mutable {
      self->place_answered(std::move(found));
    });
  });
}

// A place that fails must not keep anybody from another, or from what is public.
void Authorizer::place_answered(Result<std::vector<Credential>> found) {
  if (!found) {
    places_failure_ = found.error();
  } else {
    // Fewer than are remembered as refused, so that there is an end.
    const std::size_t room = kCandidatesMax - std::min(kCandidatesMax, found_.size());
    if (found->size() > room) found->resize(room);
    std::ranges::move(*found, std::back_inserter(found_));
  }
  use_next();
}

void Authorizer::forbidden(const std::string& used, Ready ready) {
  if (valid() && !refreshing_ && used != value_) return ready(value_);
  if (used == value_) refuse_used();
  if (!refreshing_) forbidden_ = true;
  refresh(std::move(ready));
}

void Authorizer::refuse_used() {
  // Credentials that are renewed and refused again and again must not add up.
  if (refused_.size() >= kRefusedMax) refused_.clear();
  refused_.insert(used_);
}

bool Authorizer::is_usable(const Credential& credential) const {
  return scheme_ != Scheme::kBasic || !credential.username.empty();
}

bool Authorizer::another_left() const {
  if (scheme_ == Scheme::kNone) return false;
  return places_asked_ < options_.credentials->size() ||
         std::ranges::any_of(found_, [this](const Credential& one) {
           const std::string hash = hash_of(one);
           return is_usable(one) && hash != used_ && !refused_.contains(hash);
         });
}

const Credential* Authorizer::find_usable(bool also_refused) const {
  const auto found = std::ranges::find_if(found_, [&](const Credential& one) {
    return is_usable(one) && (also_refused || !refused_.contains(hash_of(one)));
  });
  return found == found_.end() ? nullptr : &*found;
}

Error Authorizer::no_credential() const {
  if (places_failure_) return *places_failure_;
  const std::string origin = options_.endpoint.origin();
  if (std::ranges::any_of(found_, [this](const Credential& one) { return is_usable(one); })) {
    return {Errc::kDenied,
            origin + ": the registry refuses the credential for " + options_.credential_name};
  }
  return {Errc::kDenied, origin + ": a login is needed, but there is no credential for " +
                             options_.credential_name + "; log in first"};
}

void Authorizer::use_next() {
  if (const Credential* next = find_usable(false)) {
    tried_ = true;
    return use(*next);
  }
  if (places_asked_ < options_.credentials->size()) return ask_next_place();
  const Credential* refused = find_usable(true);
  if (scheme_ == Scheme::kBearer) {
    // A wrong credential must not keep anybody from what is public.
    if (tried_ || found_.empty()) return use(Credential());
    // A token may have been refused only because it was over: the first one gets another.
    const bool renewable = refused != nullptr && refused->registry_token.empty();
    if (renewable && !forbidden_) {
      refused_.clear();
      tried_ = true;
      return use(*refused);
    }
  }
  refused_.clear();  // they may be good by the next time
  settle(no_credential());
}

void Authorizer::use(const Credential& credential) {
  used_ = hash_of(credential);
  if (scheme_ == Scheme::kBasic) {
    value_ = basic(credential);
    showed(credential);
    return settle({});
  }
  if (!credential.registry_token.empty()) {
    const std::string& token = credential.registry_token;
    if (token.size() > kTokenLimit || !is_printable(token)) {
      refuse_used();
      return use_next();
    }
    value_ = "Bearer " + token;
    renew_at_ = Clock::time_point::max();
    showed(credential);
    return settle({});
  }
  auto realm = parse_url(realm_text_);
  if (!realm) {
    return settle(Error(Errc::kDenied,
                        options_.endpoint.origin() + ": the registry names no usable token realm"));
  }
  realm_ = std::move(*realm);
  if (const Status usable = check_realm(); !usable) return settle(usable);
  HttpRequest request = token_request(credential);
  if (realm_.origin() == options_.endpoint.origin()) add_headers(request, options_.headers);
  if (!credential.empty()) showed(credential);
  request_token(request, 0);
}

void Authorizer::showed(const Credential& credential) {
  const std::string identity = credential.owner.empty()
                                   ? hash_of(credential)
                                   : hash_of({"owner", credential.owner, credential.username});
  const MutexLock lock(mu_);
  identity_ = identity;
}

std::string Authorizer::identity() const {
  const MutexLock lock(mu_);
  return identity_;
}

// A registry that could name any realm could have a node's credential sent anywhere.
Status Authorizer::check_realm() const {
  const Url& registry = options_.endpoint;
  if (registry.scheme == "http") return {};
  if (realm_.scheme != "https") {
    return Error(Errc::kDenied, registry.origin() + ": the token realm " + realm_.shown() +
                                    " is plain http; nothing is sent there");
  }
  if (is_bare_address(realm_) && realm_.host != registry.host) {
    return Error(Errc::kDenied, registry.origin() + ": the token realm " + realm_.shown() +
                                    " is a bare address; nothing is sent there");
  }
  return {};
}

HttpRequest Authorizer::token_request(const Credential& credential) const {
  HttpRequest request;
  request.body_limit = kTokenAnswerLimit;
  request.counts = options_.counts;
  request.purpose = Purpose::kLogin;
  const bool away = realm_.origin() != options_.endpoint.origin();
  if (away) request.allow_address = options_.allow_address;
  request.tls = away ? options_.tls_away : options_.tls;
  if (!credential.identity_token.empty()) {
    std::string scope;
    for (const std::string& one : scopes()) scope += (scope.empty() ? "" : " ") + one;
    const std::string form = form_field("grant_type", "refresh_token") + "&" +
                             form_field("client_id", "imsy") + "&" +
                             form_field("service", service_) + "&" + form_field("scope", scope) +
                             "&" + form_field("refresh_token", credential.identity_token);
    request.method = "POST";
    request.url = realm_.text;
    request.headers.emplace_back("Content-Type", "application/x-www-form-urlencoded");
    request.body = std::make_shared<const Bytes>(as_bytes(form).begin(), as_bytes(form).end());
    return request;
  }
  request.url = realm_.text;
  if (!service_.empty()) request.url = with_query(std::move(request.url), "service", service_);
  for (const std::string& scope : scopes()) {
    request.url = with_query(std::move(request.url), "scope", scope);
  }
  if (!credential.username.empty()) {
    request.headers.emplace_back("Authorization", basic(credential));
  }
  return request;
}

void Authorizer::request_token(const HttpRequest& request, unsigned retries) {
  const auto asked = options_.now();
  http_.start(request, [self = shared_from_this(), request, retries,
                        asked](Result<HttpResponse> answer) {
    const bool again = answer ? is_busy(answer->status) : is_transient(answer.error().code());
    if (again && self->options_.patient && retries < kRetriesMax) {
      const auto wanted =
          answer ? retry_after(answer->header("retry-after"), std::time(nullptr)) : milliseconds(0);
      self->http_.call_after(
          std::max(wanted, self->backoff_.delay(retries + 1)),
          [self, request, retries] { self->request_token(request, retries + 1); });
      return;
    }
    const bool refused = answer && (answer->status == 401 || answer->status == 403);
    if (refused && self->used_ != hash_of(Credential())) {
      self->refuse_used();
      return self->use_next();
    }
    if (refused && self->places_failure_) return self->settle(*self->places_failure_);
    self->settle(answer ? self->take_token(*answer, asked) : answer.error());
  });
}

Status Authorizer::take_token(const HttpResponse& response, Clock::time_point asked) {
  const std::string what = "token from " + realm_.shown();
  if (response.status != 200) return status_error(response, what);
  IMSY_TRY_ASSIGN(const Json json, parse_json(as_text(response.body), what));
  IMSY_TRY(check_object(json, {}, what));
  IMSY_TRY_ASSIGN(std::string token, string_field(json, "token", what));
  if (token.empty()) {
    IMSY_TRY_ASSIGN(token, string_field(json, "access_token", what));
  }
  if (token.empty() || token.size() > kTokenLimit || !is_printable(token)) {
    return Error(Errc::kDenied, what + ": the answer holds no usable token");
  }
  std::uint64_t lifetime = kLifetimeDefault;
  if (const Json* field = find_field(json, "expires_in");
      field != nullptr && field->is_number_unsigned()) {
    lifetime = std::clamp<std::uint64_t>(field->get<std::uint64_t>(), 1, kLifetimeMax);
  }
  value_ = "Bearer " + token;
  // A little early; a token that lives shortly is used for most of its life all the same.
  const milliseconds life = seconds(lifetime);
  renew_at_ = asked + life - std::min(kMarginMax, life / 4);
  return {};
}

void Authorizer::settle(const Status& outcome) {
  refreshing_ = false;
  forbidden_ = false;
  if (!outcome) value_.clear();
  for (const Ready& ready : std::exchange(waiting_, {})) {
    if (outcome) {
      ready(value_);
    } else {
      ready(outcome.error());
    }
  }
}

}  // namespace imsy::oci
