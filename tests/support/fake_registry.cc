#include "tests/support/fake_registry.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <list>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "common/mutex.h"
#include "tests/support/tls_identity.h"

namespace imsy::test {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kIndexType = "application/vnd.oci.image.index.v1+json";

std::string lowered(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return text;
}

std::string_view reason(int status) {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 307: return "Temporary Redirect";
    case 401: return "Unauthorized";
    case 404: return "Not Found";
    case 416: return "Range Not Satisfiable";
    default: return "Status";
  }
}

std::string base64(std::string_view text) {
  std::string encoded((text.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()),
                                   static_cast<int>(text.size()));
  encoded.resize(static_cast<std::size_t>(size));
  return encoded;
}

std::optional<std::uint64_t> to_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return {};
  return value;
}

struct Span {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};

// "first-last", or "first-" up to `size`.
std::optional<Span> to_span(std::string_view text, std::uint64_t size) {
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) return {};
  const auto first = to_number(text.substr(0, dash));
  const auto rest = text.substr(dash + 1);
  const auto last = rest.empty() ? std::optional(size - 1) : to_number(rest);
  if (!first || !last || *first > *last || *first >= size) return {};
  return Span{*first, std::min(*last, size - 1)};
}

FakeResponse problem(int status, const std::string& code) {
  FakeResponse response;
  response.status = status;
  response.set("Content-Type", "application/json");
  response.body = Json{{"errors", {{{"code", code}, {"message", lowered(code)}}}}}.dump();
  return response;
}

FakeResponse empty(int status) {
  FakeResponse response;
  response.status = status;
  return response;
}

// One end of a connection, in plain text or TLS.
class Stream {
 public:
  Stream(int fd, SSL_CTX* context) : fd_(fd) {
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (context == nullptr) return;
    ssl_ = SSL_new(context);
    SSL_set_fd(ssl_, fd_);
    good_ = SSL_accept(ssl_) == 1;
  }
  ~Stream() {
    if (ssl_ != nullptr) SSL_free(ssl_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  bool good() const { return good_; }
  std::uint64_t sent() const { return sent_; }  // bytes so far

  // False when the client has left.
  bool fill() {
    std::array<char, 1 << 16> buffer;
    const auto size = ssl_ != nullptr
                          ? SSL_read(ssl_, buffer.data(), static_cast<int>(buffer.size()))
                          : static_cast<int>(::recv(fd_, buffer.data(), buffer.size(), 0));
    if (size <= 0) return false;
    input_.append(buffer.data(), static_cast<std::size_t>(size));
    return true;
  }

  bool send(std::string_view data) {
    while (!data.empty()) {
      const std::size_t piece = std::min<std::size_t>(data.size(), 1 << 20);
      const auto size = ssl_ != nullptr
                            ? SSL_write(ssl_, data.data(), static_cast<int>(piece))
                            : static_cast<int>(::send(fd_, data.data(), piece, MSG_NOSIGNAL));
      if (size <= 0) return false;
      sent_ += static_cast<std::uint64_t>(size);
      data.remove_prefix(static_cast<std::size_t>(size));
    }
    return true;
  }

  // Up to and without the next "\r\n"; nothing when the client has left.
  std::optional<std::string> line() {
    std::size_t end = 0;
    while ((end = input_.find("\r\n")) == std::string::npos) {
      if (!fill()) return {};
    }
    std::string text = input_.substr(0, end);
    input_.erase(0, end + 2);
    return text;
  }

  // The next byte, without taking it; 0 when the client has left.
  char first() {
    if (input_.empty() && !fill()) return 0;
    return input_.front();
  }

  std::optional<std::string> take(std::size_t size) {
    while (input_.size() < size) {
      if (!fill()) return {};
    }
    std::string text = input_.substr(0, size);
    input_.erase(0, size);
    return text;
  }

  // Waits so long; false when the client has left meanwhile.
  bool rest(std::chrono::milliseconds time) const {
    pollfd waiting{fd_, POLLRDHUP, 0};
    return ::poll(&waiting, 1, static_cast<int>(time.count())) == 0;
  }

  void wait_for_end() {
    while (fill()) input_.clear();
  }

  void reset() {
    const linger hard{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  }

 private:
  int fd_;
  SSL* ssl_ = nullptr;
  bool good_ = true;
  std::uint64_t sent_ = 0;
  std::string input_;
};

std::optional<std::string> read_chunked(Stream& stream) {
  std::string body;
  for (;;) {
    const auto head = stream.line();
    if (!head) return {};
    const auto size = std::strtoul(head->c_str(), nullptr, 16);
    const auto data = stream.take(size + 2);
    if (!data) return {};
    if (size == 0) return body;
    body.append(*data, 0, size);
  }
}

std::optional<FakeRequest> read_request(Stream& stream) {
  constexpr char kTlsGreeting = 0x16;
  if (stream.first() == kTlsGreeting) {
    stream.send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    return {};
  }
  const auto first = stream.line();
  if (!first) return {};
  FakeRequest request;
  const std::size_t space = first->find(' ');
  const std::size_t end = first->rfind(' ');
  if (space == std::string::npos || end <= space) return {};
  request.method = first->substr(0, space);
  std::string target = first->substr(space + 1, end - space - 1);
  const std::size_t mark = target.find('?');
  request.path = target.substr(0, mark);
  if (mark != std::string::npos) request.query = target.substr(mark + 1);
  for (;;) {
    const auto line = stream.line();
    if (!line) return {};
    if (line->empty()) break;
    const std::size_t colon = line->find(':');
    if (colon == std::string::npos) return {};
    const std::size_t value = line->find_first_not_of(' ', colon + 1);
    request.headers[lowered(line->substr(0, colon))] =
        value == std::string::npos ? "" : line->substr(value);
  }
  std::optional<std::string> body = std::string();
  if (lowered(request.header("transfer-encoding")) == "chunked") {
    body = read_chunked(stream);
  } else if (const auto size = to_number(request.header("content-length"))) {
    body = stream.take(*size);
  }
  if (!body) return {};
  request.body = std::move(*body);
  request.body_size = request.body.size();
  return request;
}

bool has_header(const FakeResponse& response, const std::string& name) {
  return std::any_of(response.headers.begin(), response.headers.end(),
                     [&](const auto& header) { return lowered(header.first) == name; });
}

std::string head_of(const FakeResponse& response, bool bodiless) {
  std::string head =
      "HTTP/1.1 " + std::to_string(response.status) + " " + std::string(reason(response.status));
  head += "\r\n";
  for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
  const bool length = response.framing == FakeResponse::Framing::kLength && !response.endless;
  if (response.framing == FakeResponse::Framing::kChunked) {
    head += "Transfer-Encoding: chunked\r\n";
  } else if (length && !has_header(response, "content-length") && response.status != 204 &&
             (!bodiless || !response.body.empty())) {
    head += "Content-Length: " + std::to_string(response.body.size()) + "\r\n";
  }
  return head + "\r\n";
}

bool drip(Stream& stream, std::string_view body, std::chrono::milliseconds pause) {
  for (const char& byte : body) {
    if (!stream.send({&byte, 1}) || !stream.rest(pause)) return false;
  }
  return true;
}

bool send_body(Stream& stream, const FakeResponse& response) {
  const std::string_view body = std::string_view(response.body).substr(0, response.send_at_most);
  if (response.endless) {
    while (stream.send(body.empty() ? "x" : body)) {
    }
    return false;
  }
  if (response.drip.count() > 0) return drip(stream, body, response.drip);
  if (response.framing != FakeResponse::Framing::kChunked) return stream.send(body);
  constexpr std::size_t kPiece = 4096;
  for (std::size_t at = 0; at < body.size(); at += kPiece) {
    const std::string_view piece = body.substr(at, kPiece);
    std::array<char, 32> size;
    std::snprintf(size.data(), size.size(), "%zx\r\n", piece.size());
    if (!stream.send(size.data()) || !stream.send(piece) || !stream.send("\r\n")) return false;
  }
  return body.size() < response.body.size() || stream.send("0\r\n\r\n");
}

// True when the connection can be used for another request.
bool send_response(Stream& stream, const FakeRequest& request, const FakeResponse& response) {
  const bool bodiless = request.method == "HEAD";
  const bool whole = response.send_at_most >= response.body.size();
  bool alive = true;
  if (!response.raw.empty()) {
    alive = stream.send(response.raw);
  } else {
    alive = stream.send(head_of(response, bodiless)) && (bodiless || send_body(stream, response)) &&
            whole && response.framing != FakeResponse::Framing::kUntilClose;
  }
  if (response.end == FakeResponse::End::kStall) stream.wait_for_end();
  if (response.end == FakeResponse::End::kReset) stream.reset();
  return alive && response.end == FakeResponse::End::kKeepAlive;
}

struct Fault {
  std::string method;
  std::string part;
  int times = 0;
  FakeRegistry::Change change;
};

struct Route {
  std::string_view kind;  // "" for another path
  std::string repository;
  std::string rest;
};

// Takes a path below /v2/ apart.
Route find_route(const std::string& path) {
  for (const std::string_view kind : {"/blobs/uploads/", "/blobs/", "/manifests/", "/referrers/"}) {
    const std::size_t at = path.rfind(kind);
    if (at != std::string::npos) return {kind, path.substr(0, at), path.substr(at + kind.size())};
  }
  return {};
}

bool fits(const std::string& method, std::string_view part, const FakeRequest& request) {
  return (method.empty() || method == request.method) &&
         request.path.find(part) != std::string::npos;
}

}  // namespace

std::string FakeRequest::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string() : found->second;
}

std::string FakeRequest::parameter(std::string_view name) const {
  for (std::size_t at = 0; at < query.size();) {
    const std::size_t end = std::min(query.find('&', at), query.size());
    const std::string pair = query.substr(at, end - at);
    at = end + 1;
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos || pair.substr(0, equals) != name) continue;
    std::string value;
    for (std::size_t i = equals + 1; i < pair.size(); ++i) {
      if (pair[i] == '%' && i + 2 < pair.size()) {
        value += static_cast<char>(std::strtoul(pair.substr(i + 1, 2).c_str(), nullptr, 16));
        i += 2;
      } else {
        value += pair[i];
      }
    }
    return value;
  }
  return {};
}

void FakeResponse::set(const std::string& name, const std::string& value) {
  remove(name);
  headers.emplace_back(name, value);
}

void FakeResponse::remove(std::string_view name) {
  std::erase_if(headers, [&](const auto& header) {
    return lowered(header.first) == lowered(std::string(name));
  });
}

FakeResponse FakeResponse::redirect(const std::string& location, int status) {
  FakeResponse response;
  response.status = status;
  response.set("Location", location);
  return response;
}

struct FakeRegistry::Impl {
  explicit Impl(const FakeRegistryOptions& options);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  std::string host() const { return address + ":" + std::to_string(port); }
  std::string endpoint() const { return (tls.context ? "https://" : "http://") + host(); }

  struct Stored {
    std::string media_type;
    std::string bytes;
  };
  enum class Auth { kNone, kBasic, kBearer };
  using Clock = FakeRequest::Clock;
  using Answer = std::function<FakeResponse(const FakeRequest&)>;

  // Constant after construction.
  const std::string root;
  const std::string address;
  TlsIdentity tls;
  std::filesystem::path ca_file;
  int listener = -1;
  unsigned port = 0;

  mutable Mutex mu;
  std::map<Digest, std::string> blobs IMSY_GUARDED_BY(mu);
  std::map<Digest, Stored> manifests IMSY_GUARDED_BY(mu);
  std::map<std::string, Digest> tags IMSY_GUARDED_BY(mu);  // "repository:tag"
  std::map<Digest, Json> referrers IMSY_GUARDED_BY(mu);    // descriptors by subject
  std::map<std::string, std::string> uploads IMSY_GUARDED_BY(mu);
  std::uint64_t last_upload IMSY_GUARDED_BY(mu) = 0;
  std::uint64_t chunk_min_length IMSY_GUARDED_BY(mu) = 0;
  std::optional<std::uint64_t> broken_patch IMSY_GUARDED_BY(mu);
  bool referrers_enabled IMSY_GUARDED_BY(mu) = true;
  bool mounts_enabled IMSY_GUARDED_BY(mu) = true;
  Auth auth IMSY_GUARDED_BY(mu) = Auth::kNone;
  std::string user IMSY_GUARDED_BY(mu);
  std::string password IMSY_GUARDED_BY(mu);
  std::string realm IMSY_GUARDED_BY(mu);
  int token_lifetime IMSY_GUARDED_BY(mu) = 300;
  std::uint64_t last_token IMSY_GUARDED_BY(mu) = 0;
  bool tokens_end IMSY_GUARDED_BY(mu) = false;
  std::map<std::string, Clock::time_point> tokens IMSY_GUARDED_BY(mu);  // until when
  std::list<Fault> faults IMSY_GUARDED_BY(mu);
  std::map<std::string, Answer> own_answers IMSY_GUARDED_BY(mu);  // by path
  std::vector<std::shared_ptr<FakeRequest>> requests IMSY_GUARDED_BY(mu);

  std::optional<Stored> find_manifest(const std::string& repository, const std::string& name) const
      IMSY_REQUIRES(mu);
  std::size_t connections() const IMSY_REQUIRES(mu) { return threads_.size(); }
  Digest store_manifest(const std::string& repository, const std::string& name,
                        const std::string& media_type, const std::string& bytes) IMSY_REQUIRES(mu);

 private:
  void accept_connections();
  void serve(int fd);
  FakeResponse answer(const FakeRequest& request) IMSY_REQUIRES(mu);
  FakeResponse token(const FakeRequest& request) IMSY_REQUIRES(mu);
  std::optional<FakeResponse> refuse(const FakeRequest& request, const std::string& repository)
      IMSY_REQUIRES(mu);
  FakeResponse blob(const FakeRequest& request, const std::string& digest) IMSY_REQUIRES(mu);
  FakeResponse start_upload(const FakeRequest& request, const std::string& repository)
      IMSY_REQUIRES(mu);
  FakeResponse upload(const FakeRequest& request, const std::string& id) IMSY_REQUIRES(mu);
  FakeResponse finish_upload(const FakeRequest& request, const std::string& id) IMSY_REQUIRES(mu);
  FakeResponse upload_status(int status, const FakeRequest& request, const std::string& id)
      IMSY_REQUIRES(mu);
  FakeResponse manifest(const FakeRequest& request, const std::string& repository,
                        const std::string& name) IMSY_REQUIRES(mu);
  FakeResponse list_referrers(const std::string& digest) IMSY_REQUIRES(mu);
  Change take_fault(const FakeRequest& request) IMSY_EXCLUDES(mu);
  Answer own_answer(const std::string& path) const IMSY_EXCLUDES(mu);
  bool is_valid(const std::string& token) const IMSY_REQUIRES(mu);

  bool stopping_ IMSY_GUARDED_BY(mu) = false;
  std::set<int> connections_ IMSY_GUARDED_BY(mu);
  std::vector<std::thread> threads_ IMSY_GUARDED_BY(mu);
  std::thread acceptor_;
};

FakeRegistry::Impl::Impl(const FakeRegistryOptions& options)
    : root(options.root), address(options.address) {
  if (options.tls) {
    // OpenSSL writes without MSG_NOSIGNAL, and clients of this server leave early on purpose.
    std::signal(SIGPIPE, SIG_IGN);
    tls = make_tls_identity(options.certificate_subject, options.certificate_expired);
    if (!options.client_certificate.empty()) {
      require_certificate(tls.context.get(), options.client_certificate);
    }
    std::string name = (std::filesystem::temp_directory_path() / "imsy-ca-XXXXXX").string();
    const int fd = ::mkstemp(name.data());
    if (fd < 0) std::abort();
    ::close(fd);
    ca_file = name;
    std::ofstream(ca_file) << tls.certificate_pem;
  }
  listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in bound{};
  bound.sin_family = AF_INET;
  socklen_t size = sizeof bound;
  auto* generic = reinterpret_cast<sockaddr*>(&bound);
  if (::inet_pton(AF_INET, address.c_str(), &bound.sin_addr) != 1 ||
      ::bind(listener, generic, size) != 0 || ::listen(listener, 128) != 0 ||
      ::getsockname(listener, generic, &size) != 0) {
    std::abort();
  }
  port = ntohs(bound.sin_port);
  acceptor_ = std::thread([this] { accept_connections(); });
}

FakeRegistry::Impl::~Impl() {
  std::vector<std::thread> threads;
  {
    const MutexLock lock(mu);
    stopping_ = true;
    ::shutdown(listener, SHUT_RDWR);
    for (const int fd : connections_) ::shutdown(fd, SHUT_RDWR);
  }
  acceptor_.join();
  {
    const MutexLock lock(mu);
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
  ::close(listener);
  if (!ca_file.empty()) std::filesystem::remove(ca_file);
}

void FakeRegistry::Impl::accept_connections() {
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    const MutexLock lock(mu);
    if (stopping_) {
      if (fd >= 0) ::close(fd);
      return;
    }
    if (fd < 0) continue;
    connections_.insert(fd);
    threads_.emplace_back([this, fd] { serve(fd); });
  }
}

void FakeRegistry::Impl::serve(int fd) {
  {
    Stream stream(fd, tls.context.get());
    for (bool alive = stream.good(); alive;) {
      std::optional<FakeRequest> request = read_request(stream);
      if (!request) break;
      if (const Answer own = own_answer(request->path)) {
        alive = send_response(stream, *request, own(*request));
        continue;
      }
      FakeResponse response;
      const auto logged = std::make_shared<FakeRequest>(*request);
      logged->body.clear();
      logged->began = Clock::now();
      {
        const MutexLock lock(mu);
        requests.push_back(logged);
        response = answer(*request);
      }
      const std::uint64_t before = stream.sent();
      if (const Change change = take_fault(*request)) change(*request, response);
      alive = send_response(stream, *request, response);
      const MutexLock lock(mu);
      logged->status = response.status;
      logged->sent = stream.sent() - before;
      logged->ended = Clock::now();
    }
  }
  const MutexLock lock(mu);
  connections_.erase(fd);
  ::close(fd);
}

FakeRegistry::Impl::Answer FakeRegistry::Impl::own_answer(const std::string& path) const {
  const MutexLock lock(mu);
  const auto found = own_answers.find(path);
  return found == own_answers.end() ? Answer() : found->second;
}

FakeRegistry::Change FakeRegistry::Impl::take_fault(const FakeRequest& request) {
  const MutexLock lock(mu);
  for (auto fault = faults.begin(); fault != faults.end(); ++fault) {
    if (!fits(fault->method, fault->part, request)) continue;
    Change change = fault->change;
    if (fault->times != kAlways && --fault->times == 0) faults.erase(fault);
    return change;
  }
  return {};
}

FakeResponse FakeRegistry::Impl::answer(const FakeRequest& request) {
  if (request.path == "/token") return token(request);
  if (!request.path.starts_with(root)) return problem(404, "NOT_FOUND");
  const std::string path = request.path.substr(root.size());
  const Route route = find_route(path);
  if (auto refused = refuse(request, route.repository)) return *refused;
  if (route.kind == "/blobs/uploads/") {
    return route.rest.empty() ? start_upload(request, route.repository) : upload(request, path);
  }
  if (route.kind == "/blobs/") return blob(request, route.rest);
  if (route.kind == "/manifests/") return manifest(request, route.repository, route.rest);
  if (route.kind == "/referrers/") return list_referrers(route.rest);
  return path.empty() ? empty(200) : problem(404, "NOT_FOUND");
}

std::optional<FakeResponse> FakeRegistry::Impl::refuse(const FakeRequest& request,
                                                       const std::string& repository) {
  const std::string given = request.header("authorization");
  if (auth == Auth::kNone) return {};
  FakeResponse response = problem(401, "UNAUTHORIZED");
  if (auth == Auth::kBasic) {
    if (given == "Basic " + base64(user + ":" + password)) return {};
    response.set("WWW-Authenticate", "Basic realm=\"fake\"");
    return response;
  }
  if (given.starts_with("Bearer ") && is_valid(given.substr(7))) return {};
  const bool reads = request.method == "GET" || request.method == "HEAD";
  response.set("WWW-Authenticate", "Bearer realm=\"" +
                                       (realm.empty() ? endpoint() + "/token" : realm) +
                                       "\",service=\"fake\",scope=\"repository:" + repository +
                                       (reads ? ":pull\"" : ":pull,push\""));
  return response;
}

bool FakeRegistry::Impl::is_valid(const std::string& token) const {
  const auto found = tokens.find(token);
  return found != tokens.end() && (!tokens_end || Clock::now() < found->second);
}

FakeResponse FakeRegistry::Impl::token(const FakeRequest& request) {
  const bool by_basic = request.header("authorization") == "Basic " + base64(user + ":" + password);
  const bool by_refresh = request.method == "POST" &&
                          request.body.find("refresh_token=" + password) != std::string::npos;
  if (!user.empty() && !by_basic && !by_refresh) return problem(401, "UNAUTHORIZED");
  const std::string value = "token-" + std::to_string(++last_token);
  tokens[value] = Clock::now() + std::chrono::seconds(token_lifetime);
  FakeResponse response;
  response.set("Content-Type", "application/json");
  response.body = Json{{"token", value}, {"expires_in", token_lifetime}}.dump();
  return response;
}

FakeResponse FakeRegistry::Impl::blob(const FakeRequest& request, const std::string& name) {
  const auto digest = Digest::parse(name);
  const auto found = digest ? blobs.find(*digest) : blobs.end();
  if (found == blobs.end()) return problem(404, "BLOB_UNKNOWN");
  const std::string& bytes = found->second;
  FakeResponse response;
  response.set("Content-Type", "application/octet-stream");
  response.set("Docker-Content-Digest", name);
  const std::string range = request.header("range");
  if (request.method == "HEAD" || range.empty()) {
    response.body = bytes;
    return response;
  }
  const auto span =
      range.starts_with("bytes=") ? to_span(range.substr(6), bytes.size()) : std::optional<Span>();
  if (!span) return problem(416, "RANGE_INVALID");
  response.status = 206;
  response.set("Content-Range", "bytes " + std::to_string(span->first) + "-" +
                                    std::to_string(span->last) + "/" +
                                    std::to_string(bytes.size()));
  response.body = bytes.substr(span->first, span->last - span->first + 1);
  return response;
}

FakeResponse FakeRegistry::Impl::start_upload(const FakeRequest& request,
                                              const std::string& repository) {
  if (request.method != "POST") return problem(405, "UNSUPPORTED");
  const auto mounted = Digest::parse(request.parameter("mount"));
  if (mounted && mounts_enabled && blobs.contains(*mounted)) {
    FakeResponse response = empty(201);
    response.set("Location", "/v2/" + repository + "/blobs/" + mounted->to_string());
    return response;
  }
  const std::string id = repository + "/blobs/uploads/" + std::to_string(++last_upload);
  uploads[id];
  FakeResponse response = upload_status(202, request, id);
  if (chunk_min_length != 0) {
    response.set("OCI-Chunk-Min-Length", std::to_string(chunk_min_length));
  }
  return response;
}

FakeResponse FakeRegistry::Impl::upload_status(int status, const FakeRequest&,
                                               const std::string& id) {
  FakeResponse response = empty(status);
  const std::size_t size = uploads[id].size();
  // The state makes the location of every step another one, as with real registries.
  response.set("Location", "/v2/" + id + "?state=" + std::to_string(size));
  response.set("Range", "0-" + std::to_string(size == 0 ? 0 : size - 1));
  return response;
}

FakeResponse FakeRegistry::Impl::upload(const FakeRequest& request, const std::string& id) {
  const auto found = uploads.find(id);
  if (found == uploads.end()) return problem(404, "BLOB_UPLOAD_UNKNOWN");
  std::string& bytes = found->second;
  if (request.method == "GET") return upload_status(204, request, id);
  if (request.method == "PUT") return finish_upload(request, id);
  if (request.method == "DELETE") {
    uploads.erase(found);
    return empty(204);
  }
  if (request.method != "PATCH") return problem(405, "UNSUPPORTED");
  if (request.parameter("state") != std::to_string(bytes.size())) {
    return problem(416, "BLOB_UPLOAD_INVALID");
  }
  const std::string expected =
      std::to_string(bytes.size()) + "-" + std::to_string(bytes.size() + request.body.size() - 1);
  if (request.header("content-range") != expected) return problem(416, "RANGE_INVALID");
  if (broken_patch) {
    bytes += request.body.substr(0, *std::exchange(broken_patch, std::nullopt));
    return problem(500, "UNKNOWN");
  }
  bytes += request.body;
  return upload_status(202, request, id);
}

FakeResponse FakeRegistry::Impl::finish_upload(const FakeRequest& request, const std::string& id) {
  std::string bytes = uploads[id] + request.body;
  const Digest digest = sha256(bytes);
  if (request.parameter("digest") != digest.to_string()) return problem(400, "DIGEST_INVALID");
  uploads.erase(id);
  blobs[digest] = std::move(bytes);
  FakeResponse response = empty(201);
  response.set("Docker-Content-Digest", digest.to_string());
  response.set("Location", "/v2/any/blobs/" + digest.to_string());
  return response;
}

std::optional<FakeRegistry::Impl::Stored> FakeRegistry::Impl::find_manifest(
    const std::string& repository, const std::string& name) const {
  auto digest = Digest::parse(name);
  if (!digest) {
    const auto tag = tags.find(repository + ":" + name);
    if (tag == tags.end()) return {};
    digest = tag->second;
  }
  const auto found = manifests.find(*digest);
  if (found == manifests.end()) return {};
  return found->second;
}

Digest FakeRegistry::Impl::store_manifest(const std::string& repository, const std::string& name,
                                          const std::string& media_type, const std::string& bytes) {
  const Digest digest = sha256(bytes);
  manifests[digest] = {media_type, bytes};
  if (!name.empty() && !Digest::parse(name)) tags[repository + ":" + name] = digest;
  const Json json = Json::parse(bytes, nullptr, false);
  if (!json.is_object() || !json.contains("subject")) return digest;
  const auto subject = Digest::parse(json["subject"]["digest"].get<std::string>());
  if (!subject) return digest;
  Json descriptor = {
      {"mediaType", media_type}, {"digest", digest.to_string()}, {"size", bytes.size()}};
  for (const char* key : {"artifactType", "annotations"}) {
    if (json.contains(key)) descriptor[key] = json[key];
  }
  Json& list = referrers[*subject];
  if (std::find(list.begin(), list.end(), descriptor) == list.end()) list.push_back(descriptor);
  return digest;
}

FakeResponse FakeRegistry::Impl::manifest(const FakeRequest& request, const std::string& repository,
                                          const std::string& name) {
  if (request.method == "PUT") {
    const Digest digest =
        store_manifest(repository, name, request.header("content-type"), request.body);
    FakeResponse response = empty(201);
    response.set("Docker-Content-Digest", digest.to_string());
    response.set("Location", "/v2/" + repository + "/manifests/" + digest.to_string());
    const Json json = Json::parse(request.body, nullptr, false);
    if (referrers_enabled && json.is_object() && json.contains("subject")) {
      response.set("OCI-Subject", json["subject"]["digest"].get<std::string>());
    }
    return response;
  }
  const auto stored = find_manifest(repository, name);
  if (!stored) return problem(404, "MANIFEST_UNKNOWN");
  FakeResponse response;
  response.set("Content-Type", stored->media_type);
  response.set("Docker-Content-Digest", sha256(stored->bytes).to_string());
  response.body = stored->bytes;
  return response;
}

FakeResponse FakeRegistry::Impl::list_referrers(const std::string& name) {
  const auto subject = Digest::parse(name);
  if (!referrers_enabled || !subject) return problem(404, "NOT_FOUND");
  Json list = Json::array();
  if (const auto found = referrers.find(*subject); found != referrers.end()) list = found->second;
  FakeResponse response;
  response.set("Content-Type", std::string(kIndexType));
  response.body = Json{{"schemaVersion", 2}, {"mediaType", kIndexType}, {"manifests", list}}.dump();
  return response;
}

FakeRegistry::FakeRegistry(const FakeRegistryOptions& options)
    : impl_(std::make_unique<Impl>(options)) {}
FakeRegistry::~FakeRegistry() = default;

std::string FakeRegistry::host() const {
  return impl_->host();
}
std::string FakeRegistry::endpoint() const {
  return impl_->endpoint();
}
std::string FakeRegistry::ca_file() const {
  return impl_->ca_file.string();
}

Digest FakeRegistry::add_blob(std::string bytes) {
  const Digest digest = sha256(bytes);
  set_blob(digest, std::move(bytes));
  return digest;
}
void FakeRegistry::set_blob(const Digest& digest, std::string bytes) {
  const MutexLock lock(impl_->mu);
  impl_->blobs[digest] = std::move(bytes);
}
void FakeRegistry::remove_blob(const Digest& digest) {
  const MutexLock lock(impl_->mu);
  impl_->blobs.erase(digest);
}
std::optional<std::string> FakeRegistry::blob(const Digest& digest) const {
  const MutexLock lock(impl_->mu);
  const auto found = impl_->blobs.find(digest);
  if (found == impl_->blobs.end()) return {};
  return found->second;
}
Digest FakeRegistry::add_manifest(const std::string& repository, const std::string& tag,
                                  const std::string& media_type, std::string bytes) {
  const MutexLock lock(impl_->mu);
  return impl_->store_manifest(repository, tag, media_type, bytes);
}
std::optional<std::string> FakeRegistry::manifest(const std::string& repository,
                                                  const std::string& tag_or_digest) const {
  const MutexLock lock(impl_->mu);
  const auto stored = impl_->find_manifest(repository, tag_or_digest);
  if (!stored) return {};
  return stored->bytes;
}

void FakeRegistry::enable_referrers(bool enabled) {
  const MutexLock lock(impl_->mu);
  impl_->referrers_enabled = enabled;
}
void FakeRegistry::set_chunk_min_length(std::uint64_t bytes) {
  const MutexLock lock(impl_->mu);
  impl_->chunk_min_length = bytes;
}

void FakeRegistry::break_next_patch(std::uint64_t bytes) {
  const MutexLock lock(impl_->mu);
  impl_->broken_patch = bytes;
}

void FakeRegistry::forget_uploads() {
  const MutexLock lock(impl_->mu);
  impl_->uploads.clear();
}
void FakeRegistry::enable_mounts(bool enabled) {
  const MutexLock lock(impl_->mu);
  impl_->mounts_enabled = enabled;
}

void FakeRegistry::require_basic(const std::string& user, const std::string& password) {
  const MutexLock lock(impl_->mu);
  impl_->auth = Impl::Auth::kBasic;
  impl_->user = user;
  impl_->password = password;
}
void FakeRegistry::require_bearer(const std::string& user, const std::string& password) {
  const MutexLock lock(impl_->mu);
  impl_->auth = Impl::Auth::kBearer;
  impl_->user = user;
  impl_->password = password;
}
void FakeRegistry::require_anonymous_bearer() {
  require_bearer("", "");
}
void FakeRegistry::set_token_lifetime(int seconds) {
  const MutexLock lock(impl_->mu);
  impl_->token_lifetime = seconds;
}
void FakeRegistry::enforce_token_lifetime() {
  const MutexLock lock(impl_->mu);
  impl_->tokens_end = true;
}
void FakeRegistry::set_realm(const std::string& realm) {
  const MutexLock lock(impl_->mu);
  impl_->realm = realm;
}
void FakeRegistry::expire_tokens() {
  const MutexLock lock(impl_->mu);
  impl_->tokens.clear();
}

void FakeRegistry::fault(const std::string& method, const std::string& part, int times,
                         Change change) {
  const MutexLock lock(impl_->mu);
  impl_->faults.push_back({method, part, times, std::move(change)});
}
void FakeRegistry::clear_faults() {
  const MutexLock lock(impl_->mu);
  impl_->faults.clear();
}

void FakeRegistry::answer_at(const std::string& path,
                             std::function<FakeResponse(const FakeRequest&)> answer) {
  const MutexLock lock(impl_->mu);
  impl_->own_answers[path] = std::move(answer);
}

std::vector<FakeRequest> FakeRegistry::log() const {
  const MutexLock lock(impl_->mu);
  std::vector<FakeRequest> log;
  for (const auto& request : impl_->requests) log.push_back(*request);
  return log;
}
std::size_t FakeRegistry::count(const std::string& method, std::string_view part) const {
  const MutexLock lock(impl_->mu);
  return static_cast<std::size_t>(
      std::count_if(impl_->requests.begin(), impl_->requests.end(),
                    [&](const auto& request) { return fits(method, part, *request); }));
}
void FakeRegistry::clear_log() {
  const MutexLock lock(impl_->mu);
  impl_->requests.clear();
}
std::size_t FakeRegistry::connections() const {
  const MutexLock lock(impl_->mu);
  return impl_->connections();
}

}  // namespace imsy::test
