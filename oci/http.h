// HttpClient: HTTP over libcurl's multi interface, one thread for all transfers.
//
// Promises
//   * `done` is called exactly once for every started request, on the client's own thread (or, for
//     requests that are still open when the client is destroyed, from the destructor with
//     kCancelled). It must not wait for anything.
//   * Redirects are never followed here; the layer above does that by hand, with credentials
//     dropped (oci/registry.cc). Only http and https are spoken. Never a downgrade.
//   * Bodies are limited: a 2xx body that exceeds `body_limit` ends the transfer with kInvalid. The
//     body of another status is only for messages and is cut at 64 KiB.
//   * Headers: at most 64 KiB, 128 lines and 10 interim answers; more is kInvalid. Trailers are
//     dropped. "Accept-Encoding: identity" is always sent.
//   * At most `connections_per_host` connections to one origin are open, and are kept for what
//     comes next. Where HTTP/2 is offered, transfers share one as far as it carries them, 32 at a
//     time or `connections_per_host`, whichever is more; else each has one. What finds no room
//     waits its turn in the order of start(). A paused transfer keeps its place.
//   * TLS 1.2 or newer; certificates and host names are checked unless the request's Tls says
//     otherwise. Sockets are close-on-exec.
//   * What each answer shows of its origin is kept: failures, Retry-After, round trip, bandwidth.
//   * Messages name method, host and path, never the query or a header.
// Errors: kInvalid (request malformed, a limit exceeded, the server does not speak TLS), kDenied
//   (certificate not trusted, address not allowed), kTimeout, kUnavailable (cannot connect, broken
//   connection), kCancelled, kInternal.
// Proxies are taken from the usual environment variables, as curl does.
// Threads: everything from any thread, except that perform() must not be called on the client's
//   own.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/bytes.h"
#include "common/result.h"
#include "oci/health.h"
#include "oci/tls.h"
#include "oci/traffic.h"

namespace imsy::oci {

struct HttpResponse {
  int status = 0;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case, in order
  Bytes body;
  std::string peer_address;  // numeric address of the server, or of the proxy
  // The first header of this (lower-case) name, or "".
  std::string header(std::string_view name) const;
  // All headers of this name, in order.
  std::vector<std::string> header_values(std::string_view name) const;
};

struct HttpRequest {
  std::string method = "GET";
  std::string url;
  std::vector<std::pair<std::string, std::string>> headers;
  std::shared_ptr<const Bytes> body;    // PUT, POST, PATCH; null: no body
  std::uint64_t body_limit = 4u << 20;  // of the response, bytes
  // Null: the system's. Connections are shared by requests with the same settings only.
  std::shared_ptr<const Tls> tls;
  // When set, asked with the numeric address of the peer before a connection is made and before the
  // request is sent over an existing one; false ends the transfer with kDenied. Called on the
  // client's thread; must not wait.
  std::function<bool(std::string_view address)> allow_address;
  // When set, called once with status and headers (no body yet) of the answer; an error ends the
  // transfer. Called on the client's thread; must not wait.
  std::function<Status(const HttpResponse&)> on_headers;
  // When set, a 2xx body is given here piece by piece, in order, and not collected; an error ends
  // the transfer. Called on the client's thread; must not wait.
  std::function<Status(ByteSpan)> on_body;
  // Set by the caller to slow a transfer down: polled between pieces; true pauses reading until
  // HttpClient::wake() is called. Null: never pauses.
  std::function<bool()> should_pause;
  std::chrono::milliseconds connect_timeout{10'000};
  // A transfer that brings fewer than `min_rate` bytes/s over such a time is ended with kTimeout;
  // counted from when the request is sent, not while it is paused.
  std::chrono::milliseconds idle_timeout{30'000};
  std::uint64_t min_rate = 1;
  // Limit for the whole transfer, from when its turn has come; zero: none.
  std::chrono::milliseconds total_timeout{0};
  // Where it is counted, beside the client's own counters, and as what; null: nowhere.
  std::shared_ptr<PlaceCounts> counts;
  Purpose purpose = Purpose::kOther;
};

// Adds those headers whose names the request does not have yet.
void add_headers(HttpRequest& request,
                 const std::vector<std::pair<std::string, std::string>>& more);

struct HttpOptions {
  unsigned connections_per_host = 16;
  std::string user_agent = "imsy/0.1";
  std::string ca_file;  // of servers whose request says nothing else; empty: the system's
};

// Counts of everything that crossed this client, for reports and metrics.
struct HttpCounters {
  std::uint64_t requests = 0;
  std::uint64_t bytes_received = 0;  // headers and bodies
  std::uint64_t bytes_sent = 0;
};

class HttpClient {
 public:
  using Done = std::function<void(Result<HttpResponse>)>;
  using RequestId = std::uint64_t;

  explicit HttpClient(const HttpOptions& options = {});
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Never waits. A response of any status is a success here.
  RequestId start(HttpRequest request, Done done);
  // Ends the request with kCancelled if it is still open.
  void cancel(RequestId id);
  // Makes paused transfers ask should_pause() again.
  void wake();
  // Calls `action` on the client's thread after `delay` (monotonic clock). It must not wait. What
  // has not been called when the client is destroyed is called then, by the destructor.
  void call_after(std::chrono::milliseconds delay, std::function<void()> action);
  // Runs `task`, which may wait for the disk or another process, on one of two threads kept for
  // that; for callbacks, which must not. The destructor waits for it.
  void run_aside(std::function<void()> task);
  // Of "https://host:port", shared by all who ask there; never null. From any thread.
  std::shared_ptr<HostHealth> health(const std::string& origin);
  // start() and wait for `done`. Not from the client's thread.
  Result<HttpResponse> perform(HttpRequest request);

  HttpCounters counters() const;
  // By place; as long as all requests are counted at some place, the sums are those of counters().
  Traffic& traffic();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace imsy::oci
