// HostHealth: what the answers of one origin have shown of it, whoever asked.
//
// An origin is scheme, host and port: a registry, a mirror of it, the storage that it leads to.
// Promises
//   * An origin is ailing after five failures in a row, or ten among its last twenty answers. Then
//     one probe is let through after a pause of about 1 s, which doubles, up to 8 s, with each
//     probe that fails. One success ends that.
//   * Round trip and bandwidth are smoothed, so that one odd answer says little.
//   * Told the time, it reads no clock.
// Threads: all methods from any thread; none waits.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <random>

#include "common/mutex.h"

namespace imsy::oci {

class HostHealth {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;

  // What one request to it costs, as far as it has been seen.
  struct Cost {
    std::optional<std::chrono::microseconds> round_trip;  // from the request to the first header
    std::optional<std::uint64_t> bandwidth;               // bytes/s, of all transfers together
  };

  HostHealth() : random_(std::random_device{}()) {}

  // It has asked to be left alone until then, as by Retry-After; of several times the latest.
  void hold_until(Time time);
  Time not_before() const;

  // Before then admit() says no.
  Time usable_at() const;
  // Whether somebody who can ask elsewhere as well may ask here now; true also for the probe, whose
  // answer is then awaited.
  bool admit(Time now);
  // An answer came, of whatever kind but that it cannot serve now.
  void succeeded();
  // No answer came, or one that says that it cannot serve now.
  void failed(Time now);

  void measured_round_trip(std::chrono::microseconds time);
  // A body of an answer begins or ends to arrive; of each body both, in this order.
  void body_began(Time now);
  void body_ended(Time now, std::uint64_t bytes);
  Cost cost() const;

  // Whether it has answered by HTTP/2 the last time, so that requests share a connection.
  void shares_connections(bool shares) { shares_connections_ = shares; }
  bool shares_connections() const { return shares_connections_; }

 private:
  bool ailing() const IMSY_REQUIRES(mu_);

  std::atomic<bool> shares_connections_{false};
  mutable Mutex mu_;
  Time not_before_ IMSY_GUARDED_BY(mu_){};
  std::uint32_t failures_ IMSY_GUARDED_BY(mu_) = 0;  // a bit per answer, the latest lowest
  Time probe_at_ IMSY_GUARDED_BY(mu_){};
  std::chrono::milliseconds pause_ IMSY_GUARDED_BY(mu_){0};  // 0: it is well
  bool probing_ IMSY_GUARDED_BY(mu_) = false;  // a probe was sent and has not been answered
  std::minstd_rand random_ IMSY_GUARDED_BY(mu_);

  std::optional<std::chrono::microseconds> round_trip_ IMSY_GUARDED_BY(mu_);
  std::optional<std::uint64_t> bandwidth_ IMSY_GUARDED_BY(mu_);
  unsigned bodies_ IMSY_GUARDED_BY(mu_) = 0;  // arriving now
  Time arriving_since_ IMSY_GUARDED_BY(mu_){};
  Clock::duration sample_time_ IMSY_GUARDED_BY(mu_){};  // of the sample that is being taken
  std::uint64_t sample_bytes_ IMSY_GUARDED_BY(mu_) = 0;
};

}  // namespace imsy::oci
