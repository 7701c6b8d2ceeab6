// Metrics: the daemon's numbers as Prometheus reads them. docs/operations.md lists them.
//
// Threads: free functions, any thread.
// Source: Prometheus exposition formats, text format 0.0.4.
#pragma once

#include <prometheus/metric_family.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/result.h"
#include "fuse/session.h"
#include "snapshotter/stats.h"
#include "snapshotter/types.h"

namespace imsy::snapshotter {

// Of this process, from the kernel.
struct ProcessNumbers {
  double cpu_seconds = 0;
  double start_time = 0;  // seconds since 1970
  std::uint64_t resident_bytes = 0;
  std::uint64_t threads = 0;
  std::uint64_t open_files = 0;
  std::uint64_t open_files_max = 0;
};
Result<ProcessNumbers> read_process_numbers();

struct Numbers {
  std::string version;  // of the program
  Stats stats;
  fuse::SessionStats tree;
  std::map<Kind, std::uint64_t> snapshots;
  ProcessNumbers process;
  std::uint64_t disk_bytes = 0;  // of the store's file system
  std::uint64_t disk_free_bytes = 0;
  bool healthy = true;
};

// `more` stand behind.
std::string to_prometheus(const Numbers& numbers, std::vector<prometheus::MetricFamily> more);

}  // namespace imsy::snapshotter
