#include "cli/seed/fetcher.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>
#include <utility>

namespace imsy::cli::seed {
namespace {

constexpr std::chrono::milliseconds kFirstRetryDelay{50};  // four times as long each time

bool is_passing(const Error& error) {
  return error.code() == Errc::kUnavailable || error.code() == Errc::kTimeout;
}

// The body of a good answer, or what the answer means.
Result<Bytes> body_of(Result<oci::HttpResponse> response, const std::string& url) {
  if (!response) return std::move(response).error();
  if (response->status == 200) return std::move(response->body);
  if (response->status == 404) return Error(Errc::kNotFound, url + ": not found");
  const bool may_pass = response->status >= 500 || response->status == 429;
  return Error(may_pass ? Errc::kUnavailable : Errc::kInvalid,
               url + ": status 200 expected, got " + std::to_string(response->status));
}

oci::HttpOptions client_options() {
  oci::HttpOptions options;
  options.connections_per_host = Fetcher::kConnections;
  return options;
}

std::string without_trailing_slashes(std::string address) {
  while (address.ends_with('/')) address.pop_back();
  return address;
}

}  // namespace

Fetcher::Fetcher(const Directory& directory, const std::string& address, EventLog& log,
                 const std::stop_token& stop)
    : directory_(directory),
      address_(without_trailing_slashes(address)),
      log_(log),
      stop_(stop),
      pool_("pull", std::clamp(std::thread::hardware_concurrency(), 2u, 8u)),
      http_(std::make_unique<oci::HttpClient>(client_options())) {}

Fetcher::~Fetcher() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  http_.reset();
}

std::shared_ptr<Fetch> Fetcher::start(const Digest& digest, std::uint64_t size_limit) {
  auto fetch = std::make_shared<Fetch>(digest, size_limit);
  pool_.submit([this, fetch] { load(fetch); });
  return fetch;
}

void Fetcher::load(const std::shared_ptr<Fetch>& fetch) {
  auto local = directory_.load(fetch->digest, fetch->size_limit);
  if (local) return finish(*fetch, std::move(local));
  if (local.error().code() != Errc::kNotFound) {
    log_.line("fetching again: " + local.error().message());
  }
  MutexLock lock(mu_);
  fetch->is_remote = true;
  request(fetch);
}

void Fetcher::request(const std::shared_ptr<Fetch>& fetch) {
  if (stopping_) {
    fetch->outcome = Error(Errc::kCancelled, "interrupted");
    return;
  }
  ++fetch->attempts;
  oci::HttpRequest request;
  request.url = address_ + "/" + fetch->digest.hex();
  request.body_limit = fetch->size_limit;
  http_->start(std::move(request), [this, fetch](Result<oci::HttpResponse> response) {
    receive(fetch, std::move(response));
  });
}

// On the client's thread, which must not be held up: hashing and writing go to the pool.
void Fetcher::receive(const std::shared_ptr<Fetch>& fetch, Result<oci::HttpResponse> response) {
  auto body = body_of(std::move(response), address_ + "/" + fetch->digest.hex());
  if (body) {
    pool_.submit([this, fetch, data = std::make_shared<Bytes>(std::move(*body))] {
      finish(*fetch, keep(*fetch, std::move(*data)));
    });
    return;
  }
  MutexLock lock(mu_);
  if (is_passing(body.error()) && fetch->attempts < kAttempts && !stopping_) {
    const auto delay = kFirstRetryDelay * (1 << (2 * (fetch->attempts - 1)));
    http_->call_after(delay, [this, fetch] {
      MutexLock again(mu_);
      request(fetch);
    });
    return;
  }
  fetch->outcome = std::move(body);
  changed_.notify_all();
}

Result<Bytes> Fetcher::keep(const Fetch& fetch, Bytes body) {
  if (sha256(body) != fetch.digest) {
    return Error(Errc::kCorrupt, address_ + "/" + fetch.digest.hex() + ": the server sent " +
                                     std::to_string(body.size()) +
                                     " bytes that do not match this digest; repair its copy");
  }
  IMSY_TRY(directory_.store(fetch.digest, body));
  return body;
}

void Fetcher::finish(Fetch& fetch, Result<Bytes> outcome) {
  MutexLock lock(mu_);
  fetch.outcome = std::move(outcome);
  changed_.notify_all();
}

Result<ByteSpan> Fetcher::take(const std::shared_ptr<Fetch>& fetch) {
  const std::stop_callback wake(stop_, [this] {
    MutexLock lock(mu_);
    changed_.notify_all();
  });
  MutexLock lock(mu_);
  while (!fetch->outcome) {
    if (stop_.stop_requested()) return Error(Errc::kCancelled, "interrupted");
    changed_.wait(mu_);
  }
  if (!*fetch->outcome) return fetch->outcome->error();
  return ByteSpan(**fetch->outcome);
}

bool Fetcher::is_remote(const Fetch& fetch) {
  MutexLock lock(mu_);
  return fetch.is_remote;
}

}  // namespace imsy::cli::seed
