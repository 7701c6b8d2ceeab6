// Fetcher: entries of `imsy pull`, from the directory where it has them, else over HTTP.
//
// Promises
//   * Bytes that come out, or go into the directory, have the digest that was asked for. A damaged
//     local entry is fetched again and replaced.
//   * Transfers run side by side; one that fails for a passing reason is tried again, kAttempts
//     times in all.
//   * Memory: the entries that are started and not yet taken. The caller bounds their number.
// Threads: start() and take() from one thread, which is never that of the HTTP client. Reading,
//   hashing and writing happen on the fetcher's own threads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>

#include "cli/seed/directory.h"
#include "cli/seed/event_log.h"
#include "common/bytes.h"
#include "common/digest.h"
#include "common/mutex.h"
#include "common/result.h"
#include "common/thread_pool.h"
#include "oci/http.h"

namespace imsy::cli::seed {

// One entry on its way. The members belong to Fetcher.
struct Fetch {
  Fetch(const Digest& wanted, std::uint64_t limit) : digest(wanted), size_limit(limit) {}

  const Digest digest;
  const std::uint64_t size_limit;
  // Guarded by the fetcher's mutex:
  std::optional<Result<Bytes>> outcome;
  bool is_remote = false;  // it had to be asked for over HTTP
  unsigned attempts = 0;
};

class Fetcher {
 public:
  static constexpr unsigned kAttempts = 4;
  static constexpr unsigned kConnections = 16;

  // `address`: "http://host:port", where "/<digest>" is asked for. All arguments outlive this.
  Fetcher(const Directory& directory, const std::string& address, EventLog& log,
          const std::stop_token& stop);
  // Gives up what is under way.
  ~Fetcher();
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  // Begins to get an entry of at most `size_limit` bytes. Never waits.
  std::shared_ptr<Fetch> start(const Digest& digest, std::uint64_t size_limit);

  // Waits for the entry. The bytes stay with `fetch`, as long as it lives. kNotFound: neither here
  // nor there; kCorrupt: the server sent other bytes; kInvalid: too large, or not an address;
  // kCancelled: a stop was requested; else the last error of the network or the disk.
  Result<ByteSpan> take(const std::shared_ptr<Fetch>& fetch);

  // True when the entry came over HTTP. For a fetch that was taken.
  bool is_remote(const Fetch& fetch);

 private:
  void load(const std::shared_ptr<Fetch>& fetch);
  void request(const std::shared_ptr<Fetch>& fetch) IMSY_REQUIRES(mu_);
  void receive(const std::shared_ptr<Fetch>& fetch, Result<oci::HttpResponse> response);
  Result<Bytes> keep(const Fetch& fetch, Bytes body);
  void finish(Fetch& fetch, Result<Bytes> outcome);

  const Directory& directory_;
  const std::string address_;
  EventLog& log_;
  const std::stop_token stop_;

  Mutex mu_;
  CondVar changed_;
  bool stopping_ IMSY_GUARDED_BY(mu_) = false;

  // The client's callbacks use the pool, and the pool's tasks the client, under mu_ and until
  // stopping_. The destructor ends the client first.
  ThreadPool pool_;
  std::unique_ptr<oci::HttpClient> http_;
};

}  // namespace imsy::cli::seed
