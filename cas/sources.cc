#include "cas/sources.h"

#include <algorithm>
#include <utility>

namespace imsy::cas {
namespace {

using std::chrono::milliseconds;

constexpr std::chrono::seconds kDemotion{60};
constexpr std::size_t kDemotedMax = 256;

std::ptrdiff_t count(const std::vector<std::string>& names, const std::string& name) {
  return std::count(names.begin(), names.end(), name);
}

}  // namespace

bool may_pass(const Error& error) {
  return error.code() == Errc::kUnavailable || error.code() == Errc::kTimeout;
}

Pauses::Length Pauses::length(unsigned before) {
  const Length whole = std::min(longest_, first_ * (1u << std::min(before, 16u)));
  std::uniform_int_distribution<Length::rep> part(whole.count() / 2, whole.count());
  return Length(part(random_));
}

Sources::Sources(const FetcherOptions& options, Places places, bool can_locate)
    : locate_interval_(options.locate_interval),
      demand_pauses_(options.retry_first, options.retry_longest),
      background_pauses_(options.retry_first, options.background_retry_longest),
      places_(std::move(places)),
      can_locate_(can_locate) {}

// Those that have the blob, as far as is known, before those that do not.
Places Sources::in_order(const Digest& blob, Time now) {
  std::erase_if(demoted_, [&](const auto& entry) { return entry.second <= now; });
  if (demoted_.empty()) return places_;
  Places order = places_;
  std::stable_partition(order.begin(), order.end(), [&](const auto& place) {
    return !demoted_.contains({place->name(), blob});
  });
  return order;
}

Sources::Time Sources::held_until(Urgency urgency) const {
  if (closed_ || !outage_) return Time::min();
  if (outage_->probing) return Time::max();
  return urgency == Urgency::kDemand ? outage_->demand_until : outage_->background_until;
}

Sources::Step Sources::next(Attempt& attempt, const Digest& blob, Urgency urgency, Time now) {
  if (closed_) {
    return {.move = Move::kFail,
            .error = Error(Errc::kCancelled, "the image is not read any more")};
  }
  if (outage_ && !attempt.probing) {
    if (const Time until = held_until(urgency); now < until) return {.until = until};
    outage_->probing = attempt.probing = true;
  }
  if (std::exchange(attempt.round, round_) != round_) {
    attempt.asked.clear();
    attempt.failure.reset();
  }
  Time usable_at = Time::max();
  for (const auto& place : in_order(blob, now)) {
    if (count(attempt.asked, place->name()) + count(attempt.wrong, place->name()) > 0) continue;
    if (const Time then = place->usable_at(); now < then) {
      usable_at = std::min(usable_at, then);
      continue;
    }
    attempt.asked.push_back(place->name());
    return {.move = Move::kAsk, .place = place};
  }
  return none_left(attempt, usable_at, urgency, now);
}

bool Sources::may_still_ask(Attempt& attempt) const {
  if (!closed_ && (!outage_ || attempt.probing)) return true;
  if (!attempt.asked.empty()) attempt.asked.pop_back();
  return false;
}

Sources::Step Sources::none_left(Attempt& attempt, Time usable_at, Urgency urgency, Time now) {
  if (can_locate_ && locating_) return {};
  if (can_locate_ && now >= locate_at_) {
    locating_ = true;
    return {.move = Move::kLocate};
  }
  if (places_.size() == 1 && attempt.asked.empty() &&
      count(attempt.wrong, places_.front()->name()) == 1) {
    attempt.asked.push_back(places_.front()->name());
    return {.move = Move::kAsk, .place = places_.front()};
  }
  const bool passed_over = usable_at != Time::max();
  std::optional<Error> error = attempt.failure;
  if (!error && places_.empty()) {
    error = location_failure_ ? *location_failure_
                              : Error(Errc::kUnavailable, "the image's registry is not known yet");
  }
  // Without anybody who could find a place, waiting for one is of no use.
  const bool hopeful =
      passed_over || (error && may_pass(*error) && (can_locate_ || !places_.empty()));
  if (hopeful) {
    suffer(attempt, usable_at, now);
    if (!error) {
      error = Error(Errc::kUnavailable, "no place can be asked now: all have failed lately");
    }
    return {.until = held_until(urgency), .error = std::move(error)};
  }
  if (attempt.probing) succeeded(attempt);  // they do answer
  if (!error) error = Error(Errc::kCorrupt, "every place gives wrong bytes");
  return {.move = Move::kFail, .error = std::move(error)};
}

// The outage begins or, as the attempt has found out, goes on.
void Sources::suffer(Attempt& attempt, Time usable_at, Time now) {
  if (!outage_ || attempt.probing) {
    if (!outage_) outage_ = Outage();
    const Time at_least = usable_at == Time::max() ? now : usable_at;
    const unsigned rounds = outage_->rounds++;
    outage_->demand_until = std::max(at_least, now + demand_pauses_.length(rounds));
    outage_->background_until = std::max(at_least, now + background_pauses_.length(rounds));
  }
  end_probe(attempt);
  attempt.asked.clear();
  attempt.failure.reset();
}

bool Sources::end_probe(Attempt& attempt) {
  if (!std::exchange(attempt.probing, false) || !outage_) return false;
  outage_->probing = false;
  return true;
}

bool Sources::abandon(Attempt& attempt) {
  return end_probe(attempt);
}

bool Sources::succeeded(Attempt& attempt) {
  attempt.probing = false;
  if (!outage_) return false;
  outage_.reset();
  ++round_;
  return true;
}

void Sources::failed(Attempt& attempt, const Digest& blob, const Error& error, Time now) {
  if (!may_pass(error) && !attempt.asked.empty()) {
    if (demoted_.size() >= kDemotedMax) demoted_.clear();
    demoted_[{attempt.asked.back(), blob}] = now + kDemotion;
  }
  if (!attempt.failure || (!may_pass(*attempt.failure) && may_pass(error))) {
    attempt.failure = error;
  }
}

void Sources::gave_wrong(Attempt& attempt, const std::string& place, const Digest& blob, Time now) {
  attempt.wrong.push_back(place);
  std::erase(attempt.asked, place);
  if (demoted_.size() >= kDemotedMax) demoted_.clear();
  demoted_[{place, blob}] = now + kDemotion;
}

void Sources::located(Result<Places> places, Time now) {
  locating_ = false;
  locate_at_ = now + locate_interval_;
  if (closed_) return;
  if (!places) {
    location_failure_ = places.error();
    return;
  }
  places_.swap(*places);
  ++round_;
  outage_.reset();
}

Places Sources::close() {
  closed_ = true;
  outage_.reset();
  return std::exchange(places_, {});
}

}  // namespace imsy::cas
