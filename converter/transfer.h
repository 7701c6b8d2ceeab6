// Blobs on their way to a target: several at once where the target likes that, and a count of what
// became of them.
//
// Threads: send_blobs() from one thread; it may run the tasks on others. Waits for all of them.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "oci/repository.h"

namespace imsy::converter {

// Bytes of blobs by how they came to the target.
struct Transfers {
  std::uint64_t was_there = 0;
  std::uint64_t mounted = 0;
  std::uint64_t sent = 0;

  void add(oci::Arrival arrival, std::uint64_t bytes);
};

struct BlobTask {
  std::uint64_t size = 0;
  std::function<Result<oci::Arrival>()> send;
};

// Runs all tasks; after an error those that have not begun are left out, and the error of the
// first one in their order is returned.
Status send_blobs(const oci::ImageTarget& to, const std::vector<BlobTask>& tasks,
                  Transfers& transfers);

}  // namespace imsy::converter
