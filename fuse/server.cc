#include "fuse/server.h"

#include <vector>

#include "common/log.h"
#include "fuse/waiting_read.h"

namespace imsy::fuse {

SessionStats Server::stats() const {
  SessionStats stats;
  stats.requests = requests_.load(std::memory_order_relaxed);
  stats.reads = reads_.load(std::memory_order_relaxed);
  stats.read_bytes = read_bytes_.load(std::memory_order_relaxed);
  stats.eio = eio_.load(std::memory_order_relaxed);
  MutexLock lock(mu_);
  stats.waiting_reads = waiting_.size();
  return stats;
}

void Server::report_eio(NodeId node, const Error& error) {
  eio_.fetch_add(1, std::memory_order_relaxed);
  const auto left_out = log_limit_.admit();
  if (!left_out) return;
  log::error("answered EIO {} reason=\"{}: {}\" left_out={}", fs_.describe(node),
             to_string(error.code()), error.message(), *left_out);
}

void Server::enter(const std::shared_ptr<WaitingRead>& read) {
  MutexLock lock(mu_);
  waiting_.insert(read);
}

void Server::leave(const std::shared_ptr<WaitingRead>& read) {
  MutexLock lock(mu_);
  waiting_.erase(read);
  if (waiting_.empty()) left_.notify_all();
}

void Server::close() {
  std::vector<std::shared_ptr<WaitingRead>> reads;
  {
    MutexLock lock(mu_);
    reads.assign(waiting_.begin(), waiting_.end());
  }
  for (const auto& read : reads) {
    read->give_up(Error(Errc::kUnavailable, "the filesystem is being unmounted"));
  }
  MutexLock lock(mu_);
  while (!waiting_.empty()) left_.wait(mu_);
}

}  // namespace imsy::fuse
