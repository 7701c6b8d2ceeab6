#include "oci/health.h"

#include <algorithm>
#include <bit>

namespace imsy::oci {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr std::uint32_t kRecent = (1u << 20) - 1;  // the last twenty answers
constexpr std::uint32_t kInARow = (1u << 5) - 1;
constexpr int kFailuresMax = 10;  // among the recent ones
// Short beside the deadline of a read, which may have nobody else to wait for.
constexpr milliseconds kFirstPause{1'000};
constexpr milliseconds kLongestPause{8'000};

// Shorter samples show how bytes were buffered rather than how they came.
constexpr milliseconds kSampleTime{50};
constexpr std::uint64_t kSampleBytes = 64u << 10;

}  // namespace

void HostHealth::hold_until(Time time) {
  const MutexLock lock(mu_);
  not_before_ = std::max(not_before_, time);
}

HostHealth::Time HostHealth::not_before() const {
  const MutexLock lock(mu_);
  return not_before_;
}

HostHealth::Time HostHealth::usable_at() const {
  const MutexLock lock(mu_);
  return pause_.count() == 0 ? not_before_ : std::max(not_before_, probe_at_);
}

bool HostHealth::ailing() const {
  return (failures_ & kInARow) == kInARow || std::popcount(failures_ & kRecent) >= kFailuresMax;
}

bool HostHealth::admit(Time now) {
  const MutexLock lock(mu_);
  if (now < not_before_) return false;
  if (pause_.count() == 0) return true;
  if (now < probe_at_) return false;
  probing_ = true;
  probe_at_ = now + pause_;  // another one, should its answer never come
  return true;
}

void HostHealth::succeeded() {
  const MutexLock lock(mu_);
  failures_ = pause_.count() != 0 ? 0 : failures_ << 1;
  pause_ = milliseconds(0);
  probing_ = false;
}

void HostHealth::failed(Time now) {
  const MutexLock lock(mu_);
  failures_ = (failures_ << 1) | 1;
  if (!ailing()) return;
  // Requests that were under way when it began to ail do not make the pause longer.
  if (pause_.count() != 0 && !probing_) return;
  probing_ = false;
  const milliseconds longer = std::clamp(pause_ * 2, kFirstPause, kLongestPause);
  std::uniform_int_distribution<milliseconds::rep> part(longer.count() / 2, longer.count());
  pause_ = longer;
  probe_at_ = now + milliseconds(part(random_));
}

void HostHealth::measured_round_trip(microseconds time) {
  const MutexLock lock(mu_);
  round_trip_ = round_trip_ ? (*round_trip_ * 7 + time) / 8 : time;
}

void HostHealth::body_began(Time now) {
  const MutexLock lock(mu_);
  if (bodies_++ == 0) arriving_since_ = now;
}

void HostHealth::body_ended(Time now, std::uint64_t bytes) {
  const MutexLock lock(mu_);
  sample_time_ += now - arriving_since_;
  arriving_since_ = now;
  --bodies_;
  sample_bytes_ += bytes;
  if (sample_time_ < kSampleTime || sample_bytes_ < kSampleBytes) return;
  const double seconds = std::chrono::duration<double>(sample_time_).count();
  const auto sample = static_cast<std::uint64_t>(static_cast<double>(sample_bytes_) / seconds);
  bandwidth_ = bandwidth_ ? (*bandwidth_ * 3 + sample) / 4 : sample;
  sample_time_ = {};
  sample_bytes_ = 0;
}

HostHealth::Cost HostHealth::cost() const {
  const MutexLock lock(mu_);
  return {round_trip_, bandwidth_};
}

}  // namespace imsy::oci
