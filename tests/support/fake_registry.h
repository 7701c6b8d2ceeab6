// FakeRegistry: a registry in the test's own process that can be told to misbehave.
//
// It speaks the OCI distribution specification v1.1, on 127.0.0.1 unless it is told another address
// of this machine, at a free port: blobs with ranges,
// monolithic and chunked uploads, manifests, tags, referrers, basic and bearer authentication with
// a token endpoint. A fault changes the right answer to a request just before it is sent, so a test
// names only what is wrong. Every request is logged.
// Threads: one per connection; all methods from any thread. Faults run on a connection's thread
//   and may wait there (for a latch of the test).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/digest.h"

namespace imsy::test {

struct FakeRequest {
  std::string method;
  std::string path;                            // without the query, not decoded
  std::string query;                           // without "?"
  std::map<std::string, std::string> headers;  // names in lower case; the last of a name wins
  std::string body;                            // empty in the log
  std::uint64_t body_size = 0;

  // In the log: the answer as far as it went.
  using Clock = std::chrono::steady_clock;
  int status = 0;          // 0: it is not over
  std::uint64_t sent = 0;  // bytes, headers included
  Clock::time_point began{};
  Clock::time_point ended{};

  std::string header(const std::string& lower_case_name) const;
  std::string parameter(std::string_view name) const;  // of the query, percent-decoded
};

struct FakeResponse {
  enum class Framing { kLength, kChunked, kUntilClose };
  enum class End {
    kKeepAlive,
    kClose,
    kReset,  // connection reset instead of an orderly end
    kStall,  // nothing more is sent until the client leaves
  };

  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  Framing framing = Framing::kLength;
  // Only so many bytes of the body are sent; the length is announced as if all were.
  std::size_t send_at_most = std::numeric_limits<std::size_t>::max();
  bool endless = false;  // the body again and again, until the client leaves; without a length
  std::chrono::milliseconds drip{0};  // when not 0: one byte of the body each such time
  End end = End::kKeepAlive;
  std::string raw;  // when not empty: sent as it is instead of all the above

  void set(const std::string& name, const std::string& value);  // replaces
  void remove(std::string_view name);
  static FakeResponse redirect(const std::string& location, int status = 307);
};

struct FakeRegistryOptions {
  std::string root = "/v2/";  // where the API is
  bool tls = false;
  // What the certificate is made out to, and whether it has expired.
  std::string certificate_subject = "IP:127.0.0.1";
  bool certificate_expired = false;
  std::string client_certificate = "";  // PEM; when not empty: clients must show this one
  std::string address = "127.0.0.1";    // where it listens
};

class FakeRegistry {
 public:
  explicit FakeRegistry(const FakeRegistryOptions& options = {});
  ~FakeRegistry();
  FakeRegistry(const FakeRegistry&) = delete;
  FakeRegistry& operator=(const FakeRegistry&) = delete;

  std::string host() const;      // "127.0.0.1:<port>", as in references
  std::string endpoint() const;  // "http://127.0.0.1:<port>"
  std::string ca_file() const;   // PEM file that makes the certificate trusted

  // Content. Blobs and manifests are shared by all repositories, tags are not.
  Digest add_blob(std::string bytes);
  void set_blob(const Digest& digest, std::string bytes);  // may lie about its digest
  void remove_blob(const Digest& digest);
  std::optional<std::string> blob(const Digest& digest) const;
  Digest add_manifest(const std::string& repository, const std::string& tag,
                      const std::string& media_type, std::string bytes);
  std::optional<std::string> manifest(const std::string& repository,
                                      const std::string& tag_or_digest) const;

  // Without it GET .../referrers/... is 404 and PUT of a manifest has no OCI-Subject.
  void enable_referrers(bool enabled);  // default: enabled
  void set_chunk_min_length(std::uint64_t bytes);
  // The next PATCH keeps only its first `bytes` and is answered with 500.
  void break_next_patch(std::uint64_t bytes);
  void forget_uploads();  // all that are under way
  // Whether blobs are mounted from other repositories; if not, an upload begins instead.
  void enable_mounts(bool enabled);  // default: enabled

  // Authentication for everything under /v2/. With bearer, GET or POST /token wants the user.
  void require_basic(const std::string& user, const std::string& password);
  void require_bearer(const std::string& user, const std::string& password);
  void require_anonymous_bearer();
  void set_token_lifetime(int seconds);  // what "expires_in" says
  // From now on a token is refused when its lifetime is over.
  void enforce_token_lifetime();
  void set_realm(const std::string& realm);
  void expire_tokens();  // every token given so far is refused from now on

  // The next `times` answers to `method` ("" any) on paths that contain `part` pass through
  // `change`. Faults are tried in the order they were added; the first that fits is used.
  using Change = std::function<void(const FakeRequest&, FakeResponse&)>;
  static constexpr int kAlways = std::numeric_limits<int>::max();
  void fault(const std::string& method, const std::string& part, int times, Change change);
  void clear_faults();
  // Requests for this path are answered so; no fault touches them, and they are not logged.
  void answer_at(const std::string& path, std::function<FakeResponse(const FakeRequest&)> answer);

  std::vector<FakeRequest> log() const;
  // Requests so far by `method` ("" any) on paths that contain `part`.
  std::size_t count(const std::string& method, std::string_view part) const;
  void clear_log();
  // Accepted so far.
  std::size_t connections() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace imsy::test
