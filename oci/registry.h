// Registry: one repository of a registry that speaks the OCI distribution specification v1.1.
//
// Promises
//   * Every byte returned was asked for: a range answer must be 206 with exactly the Content-Range
//     asked for and exactly that many bytes. The whole blob is asked for without a range, so that
//     also a server without ranges can give it; a 200 to anything else is refused before its first
//     byte is read.
//   * Redirects (at most 5) are followed by hand: http and https only, never from https to http;
//     Authorization is dropped when scheme, host or port change. The final location of a blob is
//     remembered until anything fails there; that sends us back to the registry once.
//   * 401 is answered from docker's configuration by basic or bearer (one token per scope, one
//     refresh in flight per scope, asked anew shortly before it expires, by a monotonic clock).
//   * 429, 502, 503, 504 and broken connections are tried again (at most 5 times, jittered
//     back-off, Retry-After clamped to 30 s), and so are ranges that come slower than kMinRate; but
//     not for who is not patient.
// Threads: all methods from any thread. The synchronous ones wait for the network; read_range()
//   and stream_range() do not, and may be called from a thread that must not wait.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "oci/auth.h"
#include "oci/credentials.h"
#include "oci/host.h"
#include "oci/http.h"
#include "oci/repository.h"

namespace imsy::oci {

inline constexpr std::uint64_t kMinRate = 4u << 10;  // bytes/s

struct RegistryOptions {
  Host host;
  std::string repository;                                                      // "library/ubuntu"
  std::shared_ptr<const CredentialPlaces> credentials = docker_credentials();  // not null
  bool push = false;  // ask for push scope in tokens
  // False, for who decides itself when to ask again and where: each request is sent once, and while
  // a server has not answered several times in a row, or has asked to be left alone, requests to it
  // fail with kUnavailable at once.
  bool patient = true;
  std::chrono::milliseconds first_retry_delay{200};  // about; the following ones double
  // A range that comes slower than kMinRate over this time breaks off, and is tried again.
  std::chrono::milliseconds rate_window{20'000};
};

class Registry : public Repository {
 public:
  // `http` must outlive the registry. Does not contact the network. kInvalid: the host's root is no
  // URL without a query, or the repository has no valid name.
  static Result<std::shared_ptr<Registry>> open(HttpClient& http, RegistryOptions options);

  using RangeDone = std::function<void(Result<Bytes>)>;
  using Cancel = std::function<void()>;
  // Bytes [offset, offset+length) of a blob of `blob_size` bytes. Never waits; `done` runs once, on
  // the HTTP client's thread, and must not wait either. The bytes are as the registry sent them,
  // not verified: the caller has the digests. `length` must be > 0 and lie inside the blob.
  // What is returned ends the request with kCancelled if it is still open, and does not wait; from
  // any thread, as long as the HTTP client exists.
  virtual Cancel read_range(const Digest& blob, std::uint64_t blob_size, std::uint64_t offset,
                            std::uint64_t length, Purpose purpose, RangeDone done) = 0;

  // The same, with the bytes as they come. All on the HTTP client's thread; none may wait.
  struct RangeEvents {
    std::function<void(ByteSpan)> on_bytes;  // in order, once the answer is known to be the range
    // The last call. Success: exactly `length` bytes have come. What broke after bytes have come is
    // not tried again, whoever asks: the caller knows where it was.
    std::function<void(Status)> done;
  };
  virtual Cancel stream_range(const Digest& blob, std::uint64_t blob_size, std::uint64_t offset,
                              std::uint64_t length, Purpose purpose, RangeEvents events) = 0;

  // Scheme, host and port that it is asked at.
  virtual std::string host() const = 0;
  // What has been measured there, whoever asked.
  virtual HostHealth::Cost cost() const = 0;
  // Asking before then is of no use to who is not patient.
  virtual std::chrono::steady_clock::time_point usable_at() const = 0;

  // The bytes that came of this blob were wrong: the next request for it asks the registry itself
  // where it lies. Never waits.
  virtual void distrust(const Digest& blob) = 0;

  // What was shown so far to get content: a hash of the credential and of what the host's
  // configuration adds; "" when nothing was, so that the content is public. The hash helps to guess
  // the credential, so it is for nobody else.
  virtual std::string identity() const = 0;
};

}  // namespace imsy::oci
