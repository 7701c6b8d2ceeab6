// This program once more, in the background, for what goes on after a command has ended.
//
// Who starts it waits until the other one is ready or has failed, and says what that one would say.
// Threads: each function and object is one thread's.
#pragma once

#include <string>
#include <vector>

#include "common/io.h"
#include "common/result.h"

namespace imsy::cli::image {

// Starts this program with `words` and "--ready-fd N" behind the first one, in a session of its
// own, without standard streams, and waits for its Announcement. An error: its own.
Status run_in_background(std::vector<std::string> words);

// The other side: what goes to that descriptor.
class Announcement {
 public:
  explicit Announcement(UniqueFd to) : to_(std::move(to)) {}
  // It works; nobody listens any more.
  void ready();
  // The end. An error is announced unless ready() was called before. Returns `outcome`.
  Status end(Status outcome);

 private:
  UniqueFd to_;
};

}  // namespace imsy::cli::image
