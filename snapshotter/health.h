// Health: whether the daemon can do its work, and what to do when it cannot.
//
// Threads: plain values.
#pragma once

#include <string>
#include <vector>

namespace imsy::snapshotter {

struct Health {
  // Lasts until somebody does something, most often a restart. Containers of lazy images do not
  // survive that, so nothing is here that passes by itself.
  std::vector<std::string> broken;
  // Works, but not as well as it could.
  std::vector<std::string> degraded;

  // "ok", or a line for each.
  std::string to_text() const;
};

}  // namespace imsy::snapshotter
