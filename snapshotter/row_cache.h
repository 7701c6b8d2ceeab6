// RowCache: snapshots that somebody asked for, by key. containerd asks for each of them again and
// again, one by one, and a query takes longer than all else of such an answer.
//
// Promises
//   * Once forget() has returned, nothing that was read before is found: whoever reads the database
//     takes generation() first and gives it to keep().
// Threads: all methods from any thread; none waits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <unordered_map>

#include "common/mutex.h"

namespace imsy::snapshotter {

template <typename Row>
class RowCache {
 public:
  // About 1 KB each.
  static constexpr std::size_t kRowsMax = 16'384;

  // Null: it is not here.
  std::shared_ptr<const Row> find(const std::string& key) const {
    MutexLock lock(mu_);
    const auto found = rows_.find(key);
    return found == rows_.end() ? nullptr : found->second;
  }
  std::uint64_t generation() const {
    MutexLock lock(mu_);
    return generation_;
  }
  // Unless something was forgotten since.
  void keep(std::uint64_t generation, const std::string& key, std::shared_ptr<const Row> row) {
    MutexLock lock(mu_);
    if (generation != generation_) return;
    if (rows_.size() >= kRowsMax) rows_.clear();
    rows_[key] = std::move(row);
  }
  // To be called when a change is on the disk, or nobody knows whether it is.
  void forget(std::initializer_list<std::string> keys) {
    MutexLock lock(mu_);
    ++generation_;
    for (const std::string& key : keys) rows_.erase(key);
  }

 private:
  mutable Mutex mu_;
  std::unordered_map<std::string, std::shared_ptr<const Row>> rows_ IMSY_GUARDED_BY(mu_);
  std::uint64_t generation_ IMSY_GUARDED_BY(mu_) = 0;
};

}  // namespace imsy::snapshotter
