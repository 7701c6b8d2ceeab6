#include "cas/in_flight.h"

#include <algorithm>
#include <utility>

namespace imsy::cas {
namespace {

template <typename T>
bool contains(const std::vector<T>& values, const T& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

bool is_target(const Target& a, const Target& b) {
  return a.image == b.image && a.chunk == b.chunk;
}

void add_once(std::vector<Target>& targets, const Target& target) {
  const auto same = [&](const Target& other) { return is_target(other, target); };
  if (std::none_of(targets.begin(), targets.end(), same)) targets.push_back(target);
}

// Takes out those elements of which `is` is true, and keeps their order.
template <typename T, typename Is>
std::vector<T> take_if(std::vector<T>& values, Is is) {
  const auto taken = std::stable_partition(values.begin(), values.end(),
                                           [&](const T& value) { return !is(value); });
  std::vector<T> result(std::make_move_iterator(taken), std::make_move_iterator(values.end()));
  values.erase(taken, values.end());
  return result;
}

}  // namespace

bool InFlight::join(const WantKey& key, Waiter waiter) {
  MutexLock lock(mu_);
  Want& want = table_[key];
  add_once(want.targets, waiter.target);
  const ImageState* image = waiter.target.image.get();
  want.waiters.push_back(std::move(waiter));
  std::erase(want.failed, image);  // who comes later deserves another attempt
  if (!want.carriers.empty()) return false;
  want.carriers.push_back(image);
  return true;
}

bool InFlight::add_target(const WantKey& key, const Target& target) {
  MutexLock lock(mu_);
  const auto found = table_.find(key);
  if (found == table_.end() || found->second.carriers.empty()) return false;
  add_once(found->second.targets, target);
  return true;
}

void InFlight::leave(const WantKey& key, const PendingRead* read) {
  std::vector<Waiter> dropped;  // destroyed without the lock
  MutexLock lock(mu_);
  const auto found = table_.find(key);
  if (found == table_.end()) return;
  dropped = take_if(found->second.waiters, [&](const Waiter& w) { return w.read.get() == read; });
}

void InFlight::carry(const WantKey& key, const ImageState* image) {
  MutexLock lock(mu_);
  auto& carriers = table_[key].carriers;
  if (!contains(carriers, image)) carriers.push_back(image);
}

bool InFlight::leave_to_others(const WantKey& key, const ImageState* image) {
  MutexLock lock(mu_);
  const auto found = table_.find(key);
  if (found == table_.end()) return false;
  auto& carriers = found->second.carriers;
  if (carriers.size() < 2 || !contains(carriers, image)) return false;
  std::erase(carriers, image);
  return true;
}

bool InFlight::is_awaited(const WantKey& key) {
  MutexLock lock(mu_);
  const auto found = table_.find(key);
  return found != table_.end() && !found->second.waiters.empty();
}

bool InFlight::is_wanted(const WantKey& key) {
  MutexLock lock(mu_);
  const auto found = table_.find(key);
  return found != table_.end() &&
         (!found->second.waiters.empty() || !found->second.targets.empty());
}

InFlight::Delivery InFlight::take(const WantKey& key, const ImageState* only) {
  Delivery delivery;
  MutexLock lock(mu_);
  const auto found = table_.find(key);
  if (found == table_.end()) {
    delivery.over = true;
    return delivery;
  }
  Want& want = found->second;
  const auto is_for = [only](const ImageState* image) { return only == nullptr || image == only; };
  delivery.targets =
      take_if(want.targets, [&](const Target& target) { return is_for(target.image.get()); });
  if (!delivery.targets.empty()) return delivery;
  delivery.waiters = take_if(
      want.waiters, [&](const Waiter& waiter) { return is_for(waiter.target.image.get()); });
  delivery.over = true;
  if (want.waiters.empty() && want.targets.empty()) table_.erase(found);
  return delivery;
}

// Every image that waits and neither failed nor is on it becomes a carrier.
void InFlight::find_help(Want& want, Outcome& outcome) {
  for (const Waiter& waiter : want.waiters) {
    const ImageState* image = waiter.target.image.get();
    if (contains(want.failed, image) || contains(want.carriers, image)) continue;
    want.carriers.push_back(image);
    outcome.restart.push_back(waiter.target);
  }
}

InFlight::Outcome InFlight::give_up(const WantKey& key, const ImageState* image, Why why) {
  Outcome outcome;
  Want forgotten;  // destroyed without the lock
  MutexLock lock(mu_);
  const auto found = table_.find(key);
  if (found == table_.end()) return outcome;
  Want& want = found->second;
  if (why != Why::kTrying) std::erase(want.carriers, image);
  if (why == Why::kFailed && !contains(want.failed, image)) want.failed.push_back(image);
  if (why == Why::kDone) std::erase(want.failed, image);
  if (why != Why::kDone || want.carriers.empty()) find_help(want, outcome);
  if (!want.carriers.empty()) return outcome;
  outcome.failed = std::move(want.waiters);
  forgotten = std::move(want);
  table_.erase(found);
  return outcome;
}

void InFlight::clear() {
  Table dropped;
  MutexLock lock(mu_);
  dropped.swap(table_);
}

std::size_t InFlight::size() {
  MutexLock lock(mu_);
  return table_.size();
}

}  // namespace imsy::cas
