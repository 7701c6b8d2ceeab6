// Scrubber: reads the whole store through once a week, slowly, and has what is bad fetched again.
//
// Promises
//   * It reads at most so many bytes a second, when nobody else wants the disk.
//   * One log line for each finding, one at the end of each pass.
//   * It goes on where it was when the daemon ended, give or take what it reads in a minute.
// Threads: create and destroy from one thread. One of its own, which waits for the disk.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <thread>

#include "cas/store.h"
#include "snapshotter/node_images.h"

namespace imsy::snapshotter {

// The file that says how far it is: one line, "<begin of the pass> <position>", the begin in
// seconds since 1970, the position "done" when the pass is over.
struct ScrubState {
  std::int64_t begun = 0;
  bool done = true;
  cas::CheckPosition at;

  std::string to_text() const;
  // Anything else than to_text() writes is the state of somebody who has never begun.
  static ScrubState parse(std::string_view text);
};

class Scrubber {
 public:
  // `bytes_per_second` is not 0. Everything outlives it.
  Scrubber(cas::Store& store, NodeImages& images, std::filesystem::path file,
           std::uint64_t bytes_per_second);
  // Waits for the disk, not for its pace.
  ~Scrubber();
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

 private:
  void run(const std::stop_token& stop);
  Status pass(const std::stop_token& stop);
  void save();

  cas::Store& store_;
  NodeImages& images_;
  const std::filesystem::path file_;
  const std::uint64_t bytes_per_second_;
  // Of the thread:
  ScrubState state_;
  std::chrono::steady_clock::time_point saved_;
  std::jthread thread_;
};

}  // namespace imsy::snapshotter
