#include "oci/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <map>
#include <optional>
#include <thread>
#include <unordered_map>

#include "common/mutex.h"
#include "common/thread_pool.h"
#include "oci/ascii.h"
#include "oci/retry.h"
#include "oci/url.h"

namespace imsy::oci {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kHeaderBytesLimit = 64u << 10;
constexpr std::size_t kHeaderLinesLimit = 128;
constexpr int kInterimLimit = 10;
constexpr std::uint64_t kErrorBodyLimit = 64u << 10;
constexpr unsigned kStreamsPerHost = 32;   // open at once where HTTP/2 is spoken
constexpr std::size_t kOriginsMax = 1024;  // whose health is kept while nobody asks them
constexpr long kReceiveBuffer = 128L << 10;
constexpr long kSendBuffer = 256L << 10;

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// RFC 9110, section 5.6.2: what a method or a header's name may consist of.
bool is_token(std::string_view text) {
  constexpr std::string_view kOther = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') ||
           kOther.find(c) != std::string_view::npos;
  });
}

bool is_header_value(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return c == '\r' || c == '\n' || c == '\0'; });
}

Errc code_of(CURLcode code, std::string_view detail) {
  switch (code) {
    case CURLE_OPERATION_TIMEDOUT: return Errc::kTimeout;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_LOGIN_DENIED: return Errc::kDenied;
    case CURLE_SSL_CONNECT_ERROR:
      // How OpenSSL calls a server that answers a TLS greeting in plain text.
      return detail.find("wrong version number") != std::string_view::npos ? Errc::kInvalid
                                                                           : Errc::kUnavailable;
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_URL_MALFORMAT: return Errc::kInvalid;
    case CURLE_OUT_OF_MEMORY:
    case CURLE_FAILED_INIT:
    case CURLE_BAD_FUNCTION_ARGUMENT:
    case CURLE_UNKNOWN_OPTION: return Errc::kInternal;
    default: return Errc::kUnavailable;
  }
}

std::string numeric_address(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* raw = nullptr;
  if (address->sa_family == AF_INET) {
    raw = &reinterpret_cast<const sockaddr_in*>(address)->sin_addr;
  } else if (address->sa_family == AF_INET6) {
    raw = &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
  }
  if (raw == nullptr || inet_ntop(address->sa_family, raw, text.data(), text.size()) == nullptr) {
    return {};
  }
  return text.data();
}

// One request from start() to done; lives on the client's thread once it was taken from the queue.
struct Transfer {
  HttpClient::RequestId id = 0;
  HttpRequest request;
  HttpClient::Done done;
  HttpResponse response;

  std::string origin;
  std::shared_ptr<HostHealth> health;  // of the origin
  Clock::time_point sent_at;
  bool body_arrives = false;
  std::string shown;  // "GET https://host/path", for messages
  CURL* easy = nullptr;
  curl_slist* header_list = nullptr;
  std::array<char, CURL_ERROR_SIZE> detail{};
  std::optional<Error> error;  // why a callback ended the transfer

  std::size_t header_bytes = 0;
  std::size_t header_lines = 0;
  int status_lines = 0;  // of interim answers and the final one
  bool headers_done = false;
  std::size_t body_sent = 0;  // of request.body
  bool body_cut = false;      // enough of an error's body was read; the response is complete for us
  std::uint64_t body_bytes = 0;
  bool paused = false;
  bool rested = false;             // was paused in the current idle window
  bool sent = false;               // the request was sent, the idle limit counts
  std::uint64_t window_bytes = 0;  // what had crossed when the current idle window began
  std::function<void()> on_sent;   // starts the idle limit
  std::atomic<std::uint64_t>* bytes_received = nullptr;

  bool fail(Errc code, const std::string& message) {
    error.emplace(code, shown + ": " + message);
    return false;
  }
  bool accept(const Status& verdict) {
    if (!verdict) error = verdict.error();
    return verdict.has_value();
  }
  bool fail_size() {
    return fail(Errc::kInvalid, "the answer is larger than the limit of " +
                                    std::to_string(request.body_limit) + " bytes");
  }
  bool announces_too_much() const;
  bool allowed(std::string_view address) {
    if (!request.allow_address || request.allow_address(address)) return true;
    return fail(Errc::kDenied,
                "an address of this kind is not allowed here: " + std::string(address));
  }
  void measure_beginning();
  void measure_end();
  void count_received(std::uint64_t bytes);
  bool take_header(std::string_view line);
  bool take_body(ByteSpan piece);
  // Bytes of request and response so far.
  std::uint64_t progress() const;
};

void Transfer::measure_beginning() {
  const auto now = Clock::now();
  if (sent) {
    health->measured_round_trip(
        std::chrono::duration_cast<std::chrono::microseconds>(now - sent_at));
  }
  health->body_began(now);
  body_arrives = true;
}

void Transfer::measure_end() {
  if (std::exchange(body_arrives, false)) health->body_ended(Clock::now(), body_bytes);
}

void Transfer::count_received(std::uint64_t bytes) {
  *bytes_received += bytes;
  if (request.counts != nullptr) request.counts->received(request.purpose, bytes);
}

bool Transfer::take_header(std::string_view line) {
  header_bytes += line.size();
  ++header_lines;
  if (header_bytes > kHeaderBytesLimit || header_lines > kHeaderLinesLimit) {
    return fail(Errc::kInvalid, "the answer's headers exceed the limit");
  }
  if (line.starts_with("HTTP/")) {
    if (++status_lines > kInterimLimit + 1) return fail(Errc::kInvalid, "too many interim answers");
    // What may pause has asked for HTTP/1.1.
    if (!request.should_pause) health->shares_connections(line.starts_with("HTTP/2"));
    response.headers.clear();
    const std::size_t space = line.find(' ');
    const std::string code(line.substr(std::min(space, line.size() - 1) + 1, 3));
    response.status = static_cast<int>(std::strtol(code.c_str(), nullptr, 10));
    return true;
  }
  // What follows the body would otherwise be taken for a header of the answer.
  if (headers_done) return true;
  line = trimmed(line);
  if (line.empty()) {
    headers_done = response.status >= 200;
    if (!headers_done) return true;
    measure_beginning();
    if (announces_too_much()) return fail_size();
    return !request.on_headers || accept(request.on_headers(response));
  }
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
    return fail(Errc::kInvalid, "the answer has a malformed header");
  }
  response.headers.emplace_back(lowered(line.substr(0, colon)), trimmed(line.substr(colon + 1)));
  return true;
}

// Not worth the wait for what goes beyond the limit.
bool Transfer::announces_too_much() const {
  if (response.status / 100 != 2 || request.method == "HEAD") return false;
  const std::string length = response.header("content-length");
  std::uint64_t bytes = 0;
  const auto [end, problem] = std::from_chars(length.data(), length.data() + length.size(), bytes);
  return problem == std::errc::result_out_of_range ||
         (problem == std::errc() && bytes > request.body_limit);
}

bool Transfer::take_body(ByteSpan piece) {
  body_bytes += piece.size();
  if (response.status / 100 != 2) {
    const std::size_t room = kErrorBodyLimit - response.body.size();
    append(response.body, piece.first(std::min(room, piece.size())));
    body_cut = body_bytes >= kErrorBodyLimit;
    return !body_cut;
  }
  if (body_bytes > request.body_limit) return fail_size();
  if (!request.on_body) {
    append(response.body, piece);
    return true;
  }
  return accept(request.on_body(piece));
}

std::uint64_t Transfer::progress() const {
  curl_off_t uploaded = 0;
  curl_easy_getinfo(easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
  return header_bytes + body_bytes + static_cast<std::uint64_t>(uploaded);
}

// The functions that curl calls; all on the client's thread.

std::size_t on_header(char* data, std::size_t, std::size_t size, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  transfer.count_received(size);
  return transfer.take_header({data, size}) ? size : 0;
}

std::size_t on_write(char* data, std::size_t, std::size_t size, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  if (transfer.request.should_pause && transfer.request.should_pause()) {
    transfer.paused = transfer.rested = true;
    return CURL_WRITEFUNC_PAUSE;
  }
  transfer.count_received(size);
  if (transfer.take_body(as_bytes({data, size}))) return size;
  return CURL_WRITEFUNC_PAUSE + 1;  // any other number ends the transfer
}

std::size_t on_read(char* to, std::size_t, std::size_t size, void* self) {
  auto& transfer = *static_cast<Transfer*>(self);
  const Bytes& body = *transfer.request.body;
  const std::size_t piece = std::min(size, body.size() - transfer.body_sent);
  std::memcpy(to, body.data() + transfer.body_sent, piece);
  transfer.body_sent += piece;
  return piece;
}

// Called when a kept connection turns out to be closed and the request is sent over another one.
int on_seek(void* self, curl_off_t offset, int origin) {
  auto& transfer = *static_cast<Transfer*>(self);
  const auto position = static_cast<std::uint64_t>(offset);
  if (origin != SEEK_SET || position > transfer.request.body->size()) return CURL_SEEKFUNC_FAIL;
  transfer.body_sent = position;
  return CURL_SEEKFUNC_OK;
}

int on_request(void* self, char* peer, char*, int, int) {
  auto& transfer = *static_cast<Transfer*>(self);
  // The connection may have been made for somebody who was allowed to.
  if (!transfer.allowed(peer)) return CURL_PREREQFUNC_ABORT;
  transfer.error.reset();  // another address of the same name may have been refused
  transfer.response.peer_address = peer;
  transfer.sent_at = Clock::now();
  if (!transfer.sent) {
    transfer.sent = true;
    transfer.on_sent();
  }
  return CURL_PREREQFUNC_OK;
}

curl_socket_t on_open_socket(void* self, curlsocktype, curl_sockaddr* address) {
  auto& transfer = *static_cast<Transfer*>(self);
  if (!transfer.allowed(numeric_address(&address->addr))) return CURL_SOCKET_BAD;
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

void check(CURLcode code) {
  // Only without memory or with an option that this libcurl lacks: nothing can go on then.
  if (code != CURLE_OK) std::abort();
}

template <typename T>
void set(CURL* easy, CURLoption option, T value) {
  check(curl_easy_setopt(easy, option, value));
}

void set_blob(CURL* easy, CURLoption option, const std::string& text) {
  if (text.empty()) return;
  // Kept by the request, which outlives its transfer.
  curl_blob blob{const_cast<char*>(text.data()), text.size(), CURL_BLOB_NOCOPY};
  set(easy, option, &blob);
}

void set_tls(CURL* easy, const Tls& tls) {
  set_blob(easy, CURLOPT_CAINFO_BLOB, tls.authorities);  // CURLOPT_CAPATH remains the system's
  set_blob(easy, CURLOPT_SSLCERT_BLOB, tls.certificate);
  set_blob(easy, CURLOPT_SSLKEY_BLOB, tls.key);
  set(easy, CURLOPT_SSL_VERIFYPEER, tls.verify ? 1L : 0L);
  set(easy, CURLOPT_SSL_VERIFYHOST, tls.verify ? 2L : 0L);
}

void set_security(CURL* easy, const HttpOptions& options) {
  set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  set(easy, CURLOPT_REDIR_PROTOCOLS_STR, "https");
  set(easy, CURLOPT_FOLLOWLOCATION, 0L);
  set(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  set(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!options.ca_file.empty()) set(easy, CURLOPT_CAINFO, options.ca_file.c_str());
  // Our headers are for the server, never for a proxy before it.
  set(easy, CURLOPT_HEADEROPT, static_cast<long>(CURLHEADER_SEPARATE));
  set(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
}

void set_callbacks(CURL* easy, Transfer& transfer) {
  set(easy, CURLOPT_PRIVATE, static_cast<void*>(&transfer));
  set(easy, CURLOPT_ERRORBUFFER, transfer.detail.data());
  set(easy, CURLOPT_HEADERFUNCTION, &on_header);
  set(easy, CURLOPT_HEADERDATA, static_cast<void*>(&transfer));
  set(easy, CURLOPT_WRITEFUNCTION, &on_write);
  set(easy, CURLOPT_WRITEDATA, static_cast<void*>(&transfer));
  set(easy, CURLOPT_PREREQFUNCTION, &on_request);
  set(easy, CURLOPT_PREREQDATA, static_cast<void*>(&transfer));
  set(easy, CURLOPT_OPENSOCKETFUNCTION, &on_open_socket);
  set(easy, CURLOPT_OPENSOCKETDATA, static_cast<void*>(&transfer));
}

bool has_header(const HttpRequest& request, std::string_view name) {
  return std::any_of(request.headers.begin(), request.headers.end(),
                     [&](const auto& header) { return lowered(header.first) == name; });
}

void set_headers(CURL* easy, Transfer& transfer) {
  const auto add = [&](const std::string& line) {
    transfer.header_list = curl_slist_append(transfer.header_list, line.c_str());
  };
  add("Accept-Encoding: identity");
  add("Expect:");  // waiting for "100 Continue" costs a round trip or, with some servers, a second
  if (!has_header(transfer.request, "content-type")) add("Content-Type:");
  for (const auto& [name, value] : transfer.request.headers) {
    add(value.empty() ? name + ";" : name + ": " + value);
  }
  set(easy, CURLOPT_HTTPHEADER, transfer.header_list);
}

void set_body(CURL* easy, Transfer& transfer) {
  const HttpRequest& request = transfer.request;
  const bool carries = request.method == "POST" || request.method == "PUT" ||
                       request.method == "PATCH" || request.body != nullptr;
  if (carries) {
    const std::size_t size = request.body == nullptr ? 0 : request.body->size();
    set(easy, CURLOPT_POST, 1L);
    set(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(size));
    if (size == 0) set(easy, CURLOPT_POSTFIELDS, "");
    set(easy, CURLOPT_READFUNCTION, &on_read);
    set(easy, CURLOPT_READDATA, static_cast<void*>(&transfer));
    set(easy, CURLOPT_SEEKFUNCTION, &on_seek);
    set(easy, CURLOPT_SEEKDATA, static_cast<void*>(&transfer));
  } else if (request.method == "HEAD") {
    set(easy, CURLOPT_NOBODY, 1L);
  }
  set(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
}

void set_request(Transfer& transfer, const HttpOptions& options) {
  CURL* easy = transfer.easy;
  const HttpRequest& request = transfer.request;
  set_security(easy, options);
  if (request.tls != nullptr) set_tls(easy, *request.tls);
  set_callbacks(easy, transfer);
  set(easy, CURLOPT_URL, request.url.c_str());
  set(easy, CURLOPT_USERAGENT, options.user_agent.c_str());
  set_body(easy, transfer);
  set_headers(easy, transfer);
  // With HTTP/2 a paused transfer holds up all others on its connection, so what may pause gets a
  // connection of its own.
  set(easy, CURLOPT_HTTP_VERSION,
      static_cast<long>(request.should_pause ? CURL_HTTP_VERSION_1_1 : CURL_HTTP_VERSION_2TLS));
  // Whether a connection can be shared is known when TLS has been agreed on; without TLS only the
  // first answer would say so.
  set(easy, CURLOPT_PIPEWAIT, transfer.origin.starts_with("https:") ? 1L : 0L);
  set(easy, CURLOPT_NOSIGNAL, 1L);
  set(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  set(easy, CURLOPT_BUFFERSIZE, kReceiveBuffer);
  set(easy, CURLOPT_UPLOAD_BUFFERSIZE, kSendBuffer);
  set(easy, CURLOPT_CONNECTTIMEOUT_MS,
      static_cast<long>(std::max(milliseconds(1), request.connect_timeout).count()));
  set(easy, CURLOPT_TIMEOUT_MS,
      static_cast<long>(std::max(milliseconds(0), request.total_timeout).count()));
}

// What can be wrong with a request before anything is sent.
Status prepare(Transfer& transfer) {
  const HttpRequest& request = transfer.request;
  if (!is_token(request.method)) return Error(Errc::kInvalid, "no valid HTTP method");
  for (const auto& [name, value] : request.headers) {
    if (!is_token(name) || !is_header_value(value)) {
      return Error(Errc::kInvalid, "no valid HTTP header to send: " +
                                       std::string(is_token(name) ? name : "(malformed name)"));
    }
  }
  IMSY_TRY_ASSIGN(const Url url, parse_url(request.url));
  transfer.origin = url.origin();
  transfer.shown = request.method + " " + url.shown();
  return {};
}

void initialise_curl() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  check(code);
}

}  // namespace

std::string HttpResponse::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

std::vector<std::string> HttpResponse::header_values(std::string_view name) const {
  std::vector<std::string> values;
  for (const auto& [key, value] : headers) {
    if (key == name) values.push_back(value);
  }
  return values;
}

void add_headers(HttpRequest& request,
                 const std::vector<std::pair<std::string, std::string>>& more) {
  const auto own = static_cast<std::ptrdiff_t>(request.headers.size());
  for (const auto& header : more) {
    const auto same = [name = lowered(header.first)](const auto& other) {
      return lowered(other.first) == name;
    };
    const auto begin = request.headers.begin();
    if (std::none_of(begin, begin + own, same)) request.headers.push_back(header);
  }
}

struct HttpClient::Impl {
  explicit Impl(const HttpOptions& client_options);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  RequestId start(HttpRequest request, Done done);
  void cancel(RequestId id);
  void wake();
  void call_after(milliseconds delay, std::function<void()> action);
  void run_aside(std::function<void()> task);
  std::shared_ptr<HostHealth> health(const std::string& origin);

  // Constant after construction.
  const HttpOptions options;
  CURLM* const multi;

  // Synchronises itself.
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::uint64_t> bytes_received{0};
  std::atomic<std::uint64_t> bytes_sent{0};
  Traffic traffic;

 private:
  using TransferPtr = std::unique_ptr<Transfer>;
  using Timers = std::multimap<Clock::time_point, std::function<void()>>;
  struct Inbox {
    std::deque<TransferPtr> started;
    std::vector<RequestId> cancelled;
    Timers timers;
    bool woken = false;
    bool stopping = false;
  };
  struct Origin {
    std::shared_ptr<HostHealth> health;
    unsigned open = 0;
    std::deque<TransferPtr> waiting;
  };

  Inbox take_inbox();
  void run();
  void step(Inbox inbox);
  void accept(TransferPtr transfer);
  bool has_room(const Origin& origin) const;
  void open(TransferPtr transfer);
  void close(RequestId id, Result<void> outcome);
  void release(Transfer& transfer);
  void give_turn(const std::string& origin);
  void cancel_now(RequestId id);
  void resume_paused();
  void watch_idle(RequestId id);
  void collect_finished();
  void run_due_timers();
  int poll_timeout() const;
  void drain();
  Status outcome_of(const Transfer& transfer, CURLcode code) const;
  static void note_health(const Transfer& transfer, const Status& outcome);

  Mutex aside_mu_;
  std::unique_ptr<ThreadPool> aside_ IMSY_GUARDED_BY(aside_mu_);  // made when first needed
  bool aside_closed_ IMSY_GUARDED_BY(aside_mu_) = false;

  Mutex health_mu_;
  std::map<std::string, std::shared_ptr<HostHealth>> health_ IMSY_GUARDED_BY(health_mu_);

  Mutex mu_;
  Inbox inbox_ IMSY_GUARDED_BY(mu_);
  RequestId last_id_ IMSY_GUARDED_BY(mu_) = 0;

  // Only on the client's thread; the destructor takes over after it has ended.
  std::unordered_map<RequestId, TransferPtr> open_;
  std::map<std::string, Origin> origins_;
  Timers timers_;

  std::thread thread_;  // last: everything above is there when it starts
};

HttpClient::Impl::Impl(const HttpOptions& client_options)
    : options(client_options), multi((initialise_curl(), curl_multi_init())) {
  if (multi == nullptr) std::abort();
  curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS,
                    static_cast<long>(std::max(4u, options.connections_per_host) * 4));
  curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS,
                    static_cast<long>(std::max(1u, options.connections_per_host)));
  thread_ = std::thread([this] { run(); });
}

HttpClient::Impl::~Impl() {
  std::unique_ptr<ThreadPool> aside;
  {
    const MutexLock lock(aside_mu_);
    aside_closed_ = true;
    aside = std::move(aside_);
  }
  aside.reset();  // ends its tasks, which may still use this client
  {
    const MutexLock lock(mu_);
    inbox_.stopping = true;
  }
  curl_multi_wakeup(multi);
  thread_.join();
  drain();
  curl_multi_cleanup(multi);
}

HttpClient::RequestId HttpClient::Impl::start(HttpRequest request, Done done) {
  auto transfer = std::make_unique<Transfer>();
  transfer->request = std::move(request);
  transfer->done = std::move(done);
  RequestId id = 0;
  {
    const MutexLock lock(mu_);
    id = transfer->id = ++last_id_;
    inbox_.started.push_back(std::move(transfer));
  }
  curl_multi_wakeup(multi);
  return id;
}

void HttpClient::Impl::cancel(RequestId id) {
  {
    const MutexLock lock(mu_);
    inbox_.cancelled.push_back(id);
  }
  curl_multi_wakeup(multi);
}

void HttpClient::Impl::wake() {
  {
    const MutexLock lock(mu_);
    inbox_.woken = true;
  }
  curl_multi_wakeup(multi);
}

void HttpClient::Impl::call_after(milliseconds delay, std::function<void()> action) {
  {
    const MutexLock lock(mu_);
    inbox_.timers.emplace(Clock::now() + delay, std::move(action));
  }
  curl_multi_wakeup(multi);
}

void HttpClient::Impl::run_aside(std::function<void()> task) {
  {
    const MutexLock lock(aside_mu_);
    if (!aside_closed_) {
      if (!aside_) aside_ = std::make_unique<ThreadPool>("imsy-aside", 2);
      aside_->submit(std::move(task));
      return;
    }
  }
  task();  // the client is being destroyed; nobody is kept waiting any more
}

std::shared_ptr<HostHealth> HttpClient::Impl::health(const std::string& origin) {
  const MutexLock lock(health_mu_);
  if (health_.size() >= kOriginsMax && !health_.contains(origin)) {
    std::erase_if(health_, [](const auto& entry) { return entry.second.use_count() == 1; });
  }
  std::shared_ptr<HostHealth>& found = health_[origin];
  if (found == nullptr) found = std::make_shared<HostHealth>();
  return found;
}

HttpClient::Impl::Inbox HttpClient::Impl::take_inbox() {
  const MutexLock lock(mu_);
  Inbox taken = std::move(inbox_);
  inbox_ = Inbox();
  inbox_.stopping = taken.stopping;
  return taken;
}

void HttpClient::Impl::run() {
  name_this_thread("imsy-http");
  for (;;) {
    Inbox inbox = take_inbox();
    const bool stopping = inbox.stopping;
    step(std::move(inbox));
    if (stopping) return;
    curl_multi_poll(multi, nullptr, 0, poll_timeout(), nullptr);
  }
}

void HttpClient::Impl::step(Inbox inbox) {
  timers_.merge(inbox.timers);
  for (TransferPtr& transfer : inbox.started) accept(std::move(transfer));
  for (const RequestId id : inbox.cancelled) cancel_now(id);
  if (inbox.woken) resume_paused();
  run_due_timers();
  int running = 0;
  curl_multi_perform(multi, &running);
  collect_finished();
}

// Opens the transfer, or lets it wait while its origin has no place. curl could do the waiting, but
// would count it towards the limits of time.
void HttpClient::Impl::accept(TransferPtr transfer) {
  if (const Status prepared = prepare(*transfer); !prepared) {
    transfer->done(prepared.error());
    return;
  }
  Origin& origin = origins_[transfer->origin];
  if (origin.health == nullptr) origin.health = health(transfer->origin);
  transfer->health = origin.health;
  if (has_room(origin)) {
    ++origin.open;
    open(std::move(transfer));
  } else {
    origin.waiting.push_back(std::move(transfer));
  }
}

bool HttpClient::Impl::has_room(const Origin& origin) const {
  const unsigned connections = std::max(1u, options.connections_per_host);
  return origin.open < (origin.health->shares_connections() ? std::max(connections, kStreamsPerHost)
                                                            : connections);
}

void HttpClient::Impl::open(TransferPtr transfer) {
  const RequestId id = transfer->id;
  // A new one each time: of one that was used, HTTP/2 may leave a buffer whose size is fixed.
  transfer->easy = curl_easy_init();
  if (transfer->easy == nullptr) std::abort();
  transfer->bytes_received = &bytes_received;
  transfer->on_sent = [this, id] { watch_idle(id); };
  set_request(*transfer, options);
  ++requests;
  if (transfer->request.counts != nullptr) {
    transfer->request.counts->asked(transfer->request.purpose);
  }
  CURL* easy = transfer->easy;
  open_.emplace(id, std::move(transfer));
  if (curl_multi_add_handle(multi, easy) != CURLM_OK) std::abort();
}

void HttpClient::Impl::release(Transfer& transfer) {
  curl_off_t body = 0;
  long head = 0;
  curl_easy_getinfo(transfer.easy, CURLINFO_SIZE_UPLOAD_T, &body);
  curl_easy_getinfo(transfer.easy, CURLINFO_REQUEST_SIZE, &head);
  bytes_sent += static_cast<std::uint64_t>(body) + static_cast<std::uint64_t>(head);
  curl_multi_remove_handle(multi, transfer.easy);
  curl_easy_cleanup(std::exchange(transfer.easy, nullptr));
  curl_slist_free_all(std::exchange(transfer.header_list, nullptr));
}

void HttpClient::Impl::give_turn(const std::string& name) {
  const auto found = origins_.find(name);
  Origin& origin = found->second;
  --origin.open;
  while (!origin.waiting.empty() && has_room(origin)) {
    TransferPtr next = std::move(origin.waiting.front());
    origin.waiting.pop_front();
    ++origin.open;
    open(std::move(next));
  }
  if (origin.open == 0) origins_.erase(found);
}

void HttpClient::Impl::close(RequestId id, Result<void> outcome) {
  const auto found = open_.find(id);
  const TransferPtr transfer = std::move(found->second);
  open_.erase(found);
  release(*transfer);
  transfer->measure_end();
  note_health(*transfer, outcome);
  give_turn(transfer->origin);
  if (outcome) {
    transfer->done(std::move(transfer->response));
  } else {
    transfer->done(std::move(outcome).error());
  }
}

// What we end ourselves, or refuse of an answer, says nothing of whether the server works.
void HttpClient::Impl::note_health(const Transfer& transfer, const Status& outcome) {
  HostHealth& health = *transfer.health;
  if (!outcome && (transfer.error || outcome.error().code() == Errc::kCancelled)) return;
  const auto now = Clock::now();
  const int status = transfer.response.status;
  if (outcome && is_busy(status)) {
    health.hold_until(now +
                      retry_after(transfer.response.header("retry-after"), std::time(nullptr)));
  }
  if (outcome && status < 500) {
    health.succeeded();
  } else {
    health.failed(now);
  }
}

void HttpClient::Impl::cancel_now(RequestId id) {
  if (const auto found = open_.find(id); found != open_.end()) {
    close(id, Error(Errc::kCancelled, found->second->shown + ": cancelled"));
    return;
  }
  for (auto& [name, origin] : origins_) {
    const auto waiting = std::find_if(origin.waiting.begin(), origin.waiting.end(),
                                      [&](const TransferPtr& one) { return one->id == id; });
    if (waiting == origin.waiting.end()) continue;
    const TransferPtr transfer = std::move(*waiting);
    origin.waiting.erase(waiting);
    transfer->done(Error(Errc::kCancelled, transfer->shown + ": cancelled"));
    return;
  }
}

void HttpClient::Impl::resume_paused() {
  std::vector<std::pair<RequestId, Status>> failed;
  for (const auto& [id, transfer] : open_) {
    if (!transfer->paused || transfer->request.should_pause()) continue;
    transfer->paused = false;
    // Delivers what curl has kept meanwhile, which may fail or pause again.
    const CURLcode code = curl_easy_pause(transfer->easy, CURLPAUSE_CONT);
    if (code != CURLE_OK || transfer->error) failed.emplace_back(id, outcome_of(*transfer, code));
  }
  for (auto& [id, outcome] : failed) close(id, std::move(outcome));
}

// Asks again after every window whether enough has crossed in it.
void HttpClient::Impl::watch_idle(RequestId id) {
  const auto found = open_.find(id);
  if (found == open_.end()) return;
  const milliseconds window = found->second->request.idle_timeout;
  if (window.count() <= 0) return;
  timers_.emplace(Clock::now() + window, [this, id, window] {
    const auto again = open_.find(id);
    if (again == open_.end()) return;
    Transfer& transfer = *again->second;
    const std::uint64_t now = transfer.progress();
    const std::uint64_t came = now - transfer.window_bytes;
    const std::uint64_t wanted =
        transfer.request.min_rate * static_cast<std::uint64_t>(window.count()) / 1000;
    if (!transfer.rested && came < std::max<std::uint64_t>(1, wanted)) {
      close(id,
            Error(Errc::kTimeout, transfer.shown + ": only " + std::to_string(came) +
                                      " bytes within " + std::to_string(window.count()) + " ms"));
      return;
    }
    transfer.window_bytes = now;
    transfer.rested = transfer.paused;
    watch_idle(id);
  });
}

Status HttpClient::Impl::outcome_of(const Transfer& transfer, CURLcode code) const {
  if (transfer.error) return *transfer.error;
  if (code == CURLE_OK && !transfer.headers_done) {  // for curl a complete answer without a body
    return Error(Errc::kUnavailable, transfer.shown + ": the connection ended within the headers");
  }
  if (code == CURLE_OK || transfer.body_cut) return {};
  std::string detail(transfer.detail.data());
  if (detail.empty()) detail = curl_easy_strerror(code);
  const Errc kind = code_of(code, detail);
  if (code == CURLE_SSL_CONNECT_ERROR && kind == Errc::kInvalid) {
    detail = "the server does not speak TLS, and plain http was not asked for (--plain-http)";
  }
  return Error(kind, transfer.shown + ": " + detail);
}

void HttpClient::Impl::collect_finished() {
  int left = 0;
  while (const CURLMsg* message = curl_multi_info_read(multi, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    char* owner = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner);
    const auto& transfer = *reinterpret_cast<Transfer*>(owner);
    close(transfer.id, outcome_of(transfer, message->data.result));
  }
}

void HttpClient::Impl::run_due_timers() {
  const auto now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const auto action = timers_.extract(timers_.begin());
    action.mapped()();
  }
}

int HttpClient::Impl::poll_timeout() const {
  constexpr milliseconds kLongest{60'000};  // curl shortens it to its own timers
  if (timers_.empty()) return static_cast<int>(kLongest.count());
  const auto left = std::chrono::ceil<milliseconds>(timers_.begin()->first - Clock::now());
  return static_cast<int>(std::clamp(left, milliseconds(0), kLongest).count());
}

// Answers everything that is still open. What the callbacks start meanwhile is answered as well.
void HttpClient::Impl::drain() {
  for (;;) {
    Inbox inbox = take_inbox();
    timers_.merge(inbox.timers);
    for (auto& [name, origin] : origins_) {
      for (TransferPtr& waiting : origin.waiting) inbox.started.push_back(std::move(waiting));
      origin.waiting.clear();
    }
    if (inbox.started.empty() && open_.empty() && timers_.empty()) return;
    for (const TransferPtr& transfer : inbox.started) {
      transfer->done(Error(Errc::kCancelled, "the HTTP client is shutting down"));
    }
    while (!open_.empty()) {
      close(open_.begin()->first, Error(Errc::kCancelled, "the HTTP client is shutting down"));
    }
    while (!timers_.empty()) timers_.extract(timers_.begin()).mapped()();
  }
}

HttpClient::HttpClient(const HttpOptions& options) : impl_(std::make_unique<Impl>(options)) {}
HttpClient::~HttpClient() = default;

HttpClient::RequestId HttpClient::start(HttpRequest request, Done done) {
  return impl_->start(std::move(request), std::move(done));
}

void HttpClient::cancel(RequestId id) {
  impl_->cancel(id);
}

void HttpClient::wake() {
  impl_->wake();
}

void HttpClient::call_after(milliseconds delay, std::function<void()> action) {
  impl_->call_after(delay, std::move(action));
}

void HttpClient::run_aside(std::function<void()> task) {
  impl_->run_aside(std::move(task));
}

std::shared_ptr<HostHealth> HttpClient::health(const std::string& origin) {
  return impl_->health(origin);
}

Result<HttpResponse> HttpClient::perform(HttpRequest request) {
  Mutex mu;
  CondVar answered;
  std::optional<Result<HttpResponse>> answer;
  start(std::move(request), [&](Result<HttpResponse> result) {
    const MutexLock lock(mu);
    answer.emplace(std::move(result));
    answered.notify_one();
  });
  const MutexLock lock(mu);
  while (!answer) answered.wait(mu);
  return std::move(*answer);
}

Traffic& HttpClient::traffic() {
  return impl_->traffic;
}

HttpCounters HttpClient::counters() const {
  return {impl_->requests, impl_->bytes_received, impl_->bytes_sent};
}

}  // namespace imsy::oci
