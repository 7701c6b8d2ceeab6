// Progress: what a conversion has done so far, shown as one changing line on a terminal.
//
// Threads: the counters from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "common/mutex.h"

namespace imsy::converter {

class Progress {
 public:
  // Shows itself on stderr when `visible`; callers pass false in pipes and with --quiet.
  explicit Progress(bool visible) : visible_(visible) {}
  ~Progress();

  void begin_image(const std::string& name, std::uint64_t bytes_to_read);
  void add_read(std::uint64_t bytes);       // of the source's blobs
  void begin_writing(std::uint64_t bytes);  // raw bytes of the data layer, about
  void add_written(std::uint64_t raw, std::uint64_t stored);

  std::uint64_t bytes_read() const { return read_.load(); }

 private:
  void show(bool always);

  const bool visible_;
  std::atomic<std::uint64_t> read_{0}, to_read_{0}, raw_{0}, to_write_{0}, stored_{0};
  Mutex mu_;
  std::string name_ IMSY_GUARDED_BY(mu_);
  std::chrono::steady_clock::time_point shown_ IMSY_GUARDED_BY(mu_);
  bool line_open_ IMSY_GUARDED_BY(mu_) = false;
};

}  // namespace imsy::converter
