// EventLog: lines on stderr as the original writes them: date, time, text.
//
// Threads: line() from any thread; lines are never mixed.
#pragma once

#include <ostream>
#include <string>
#include <string_view>

#include "common/mutex.h"

namespace imsy::cli::seed {

class EventLog {
 public:
  // `to` outlives this.
  explicit EventLog(std::ostream& to) : to_(to) {}

  // Writes "2026/01/31 23:59:58 text\n", in local time.
  void line(std::string_view text);

 private:
  Mutex mu_;
  std::ostream& to_ IMSY_GUARDED_BY(mu_);
};

// `text` between double quotes; quotes, backslashes and everything that is not printable ASCII
// escaped, so that a foreign text cannot forge a line.
std::string quote(std::string_view text);

}  // namespace imsy::cli::seed
