#include "cas/dispatch.h"

#include <algorithm>
#include <utility>

namespace imsy::cas {
namespace {

using std::chrono::microseconds;

constexpr microseconds kPatience{100'000};
constexpr int kRoundTrips = 3;
constexpr double kBurst = 0.25;  // seconds of the rate that may be saved up

}  // namespace

Dispatch::Id Dispatch::add(Job job) {
  if (!served_.contains(job.image)) {
    std::uint64_t least = served_.empty() ? 0 : served_.begin()->second;
    for (const auto& [image, bytes] : served_) least = std::min(least, bytes);
    served_.emplace(job.image, least);
  }
  if (job.purpose == Purpose::kDemand) ++hosts_[job.host].waiting;
  entries_.emplace(++last_, Entry{.job = std::move(job)});
  return last_;
}

void Dispatch::refill(Time now) {
  if (options_.rate == 0) return;
  const double rate = static_cast<double>(options_.rate);
  const double seconds = std::chrono::duration<double>(now - filled_at_).count();
  if (seconds > 0) tokens_ = std::min(tokens_ + std::min(seconds, 1e6) * rate, kBurst * rate);
  filled_at_ = now;
}

bool Dispatch::may_go(const Entry& entry) const {
  const bool demand = entry.job.purpose == Purpose::kDemand;
  const std::uint64_t room = demand ? options_.bytes_max : options_.bytes_max / 4 * 3;
  if (held_ != 0 && (held_ >= room || entry.job.bytes > room - held_)) return false;
  if (!demand && options_.rate != 0 && tokens_ < 0) return false;
  const auto found = hosts_.find(entry.job.host);
  if (found == hosts_.end()) return true;
  const Host& host = found->second;
  if (host.demand + host.background >= options_.per_host) return false;
  if (demand) return true;
  if (host.background >= std::max(1u, options_.per_host * 3 / 4)) return false;
  return entry.job.purpose == Purpose::kStartup || (host.demand == 0 && host.waiting == 0);
}

// Of those that may go the one whose image has been given least; the oldest of its image.
Dispatch::Entries::iterator Dispatch::choose(Purpose purpose) {
  auto best = entries_.end();
  for (auto at = entries_.begin(); at != entries_.end(); ++at) {
    const Entry& entry = at->second;
    if (entry.state != State::kWaits || entry.job.purpose != purpose || !may_go(entry)) continue;
    if (best == entries_.end() || served_[entry.job.image] < served_[best->second.job.image]) {
      best = at;
    }
  }
  return best;
}

void Dispatch::send(Entries::iterator at) {
  Entry& entry = at->second;
  const bool demand = entry.job.purpose == Purpose::kDemand;
  Host& host = hosts_[entry.job.host];
  ++(demand ? host.demand : host.background);
  if (demand) --host.waiting;
  entry.state = State::kSent;
  held_ += entry.job.bytes;
  served_[entry.job.image] += entry.job.bytes;
  tokens_ -= static_cast<double>(entry.job.bytes);
}

Dispatch::Moves Dispatch::next(Time now) {
  refill(now);
  Moves moves;
  for (const Purpose purpose : {Purpose::kDemand, Purpose::kStartup, Purpose::kFill}) {
    for (auto at = choose(purpose); at != entries_.end(); at = choose(purpose)) {
      send(at);
      moves.send.push_back(at->first);
    }
  }
  cut_for_readers(moves);
  const bool waits = std::any_of(entries_.begin(), entries_.end(), [](const auto& entry) {
    return entry.second.state == State::kWaits && entry.second.job.purpose != Purpose::kDemand;
  });
  if (waits && options_.rate != 0 && tokens_ < 0) {
    const std::chrono::duration<double> pause(-tokens_ / static_cast<double>(options_.rate));
    moves.wake_at = now + std::chrono::ceil<std::chrono::milliseconds>(pause);
  }
  return moves;
}

// Whether the rest of its first `bytes` takes longer than that.
bool Dispatch::outlasts(const Entry& entry, std::uint64_t bytes, microseconds time) {
  const Cost& cost = entry.job.cost;
  const auto rest = cost.time_of(bytes - std::min(bytes, entry.came));
  const microseconds trips = cost.round_trip.value_or(microseconds(0)) * kRoundTrips;
  return rest && *rest > std::max(time, trips);
}

bool Dispatch::outlasts_reader(Id id, std::uint64_t bytes) const {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return false;
  return found->second.state == State::kWaits || outlasts(found->second, bytes, kPatience);
}

void Dispatch::cut_for_readers(Moves& moves) {
  for (auto& [name, host] : hosts_) {
    if (host.demand + host.waiting == 0 || host.background == 0) continue;
    const bool full = host.waiting > 0 && host.demand + host.background >= options_.per_host;
    bool freed = false;
    for (auto at = entries_.rbegin(); at != entries_.rend(); ++at) {  // the youngest first
      Entry& entry = at->second;
      const bool fills = entry.state == State::kSent && entry.job.purpose == Purpose::kFill;
      if (!fills || entry.job.host != name) continue;
      if (entry.cut) {
        freed = true;
        continue;
      }
      const bool for_slot = full && !freed && outlasts(entry, entry.job.bytes, microseconds(0));
      if (!for_slot && !outlasts(entry, entry.job.bytes, kPatience)) continue;
      entry.cut = freed = true;
      moves.cut.push_back(at->first);
    }
  }
}

void Dispatch::came(Id id, std::uint64_t bytes) {
  if (const auto found = entries_.find(id); found != entries_.end()) found->second.came += bytes;
}

void Dispatch::leave_wire(Entry& entry) {
  if (entry.state == State::kEnded) return;
  const auto found = hosts_.find(entry.job.host);
  const bool demand = entry.job.purpose == Purpose::kDemand;
  if (entry.state == State::kSent) {
    --(demand ? found->second.demand : found->second.background);
  } else if (demand) {
    --found->second.waiting;
  }
  if (found != hosts_.end() &&
      found->second.demand + found->second.background + found->second.waiting == 0) {
    hosts_.erase(found);
  }
  if (entry.state == State::kWaits) entry.job.bytes = 0;  // never held
  entry.state = State::kEnded;
}

void Dispatch::ended(Id id) {
  if (const auto found = entries_.find(id); found != entries_.end()) leave_wire(found->second);
}

void Dispatch::forget(Id id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  leave_wire(found->second);
  held_ -= found->second.job.bytes;
  const void* image = found->second.job.image;
  entries_.erase(found);
  const bool more = std::any_of(entries_.begin(), entries_.end(), [image](const auto& entry) {
    return entry.second.job.image == image;
  });
  if (!more) served_.erase(image);
}

}  // namespace imsy::cas
