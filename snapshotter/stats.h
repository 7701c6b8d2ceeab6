// Stats: what the daemon did since it started, as a file for people and tests.
//
// <state>/stats.json, replaced as a whole; docs/operations.md describes the fields.
// Threads: one thread uses it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "common/result.h"
#include "oci/traffic.h"
#include "snapshotter/node_images.h"

namespace imsy::snapshotter {

struct Stats {
  std::uint64_t bytes_fetched = 0;  // on the wire, headers included
  std::uint64_t requests = 0;
  std::uint64_t bytes_copied = 0;  // chunks taken from other objects of the store
  std::uint64_t chunks_fetched = 0;
  std::uint64_t bytes_gap = 0;  // as cas::FetchStats
  std::uint64_t bytes_broken = 0;
  std::uint64_t bytes_wrong = 0;
  oci::TrafficByPlace traffic;
  std::vector<NodeImages::ImageStats> images;

  std::string to_json() const;
};

// Writes to the file when there is something new.
class StatsFile {
 public:
  explicit StatsFile(std::filesystem::path path) : path_(std::move(path)) {}
  // Not durable: the numbers start anew with the process.
  Status write(const Stats& stats);

 private:
  const std::filesystem::path path_;
  std::string written_;
};

}  // namespace imsy::snapshotter
