#include "converter/transfer.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>

#include "common/thread_pool.h"

namespace imsy::converter {

void Transfers::add(oci::Arrival arrival, std::uint64_t bytes) {
  switch (arrival) {
    case oci::Arrival::kWasThere: was_there += bytes; break;
    case oci::Arrival::kMounted: mounted += bytes; break;
    case oci::Arrival::kSent: sent += bytes; break;
    case oci::Arrival::kElsewhere: break;
  }
}

Status send_blobs(const oci::ImageTarget& to, const std::vector<BlobTask>& tasks,
                  Transfers& transfers) {
  std::vector<std::optional<Result<oci::Arrival>>> outcomes(tasks.size());
  std::atomic<std::size_t> next{0};
  std::atomic<bool> failed{false};
  const auto work = [&] {
    while (!failed) {
      const std::size_t i = next++;
      if (i >= tasks.size()) return;
      outcomes[i] = tasks[i].send();
      if (!*outcomes[i]) failed = true;
    }
  };
  {
    std::vector<std::jthread> others;
    for (std::size_t i = 1; i < std::min<std::size_t>(to.parallel_writes(), tasks.size()); ++i) {
      others.emplace_back([&work] {
        name_this_thread("push");
        work();
      });
    }
    work();
  }
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (!outcomes[i]) continue;
    if (!*outcomes[i]) return outcomes[i]->error();
    transfers.add(**outcomes[i], tasks[i].size);
  }
  return {};
}

}  // namespace imsy::converter
