#include "snapshotter/health.h"

#include "common/log.h"

namespace imsy::snapshotter {

std::string Health::to_text() const {
  std::string text;
  for (const std::string& what : broken) text += "broken: " + log::printable(what) + "\n";
  for (const std::string& what : degraded) text += "degraded: " + log::printable(what) + "\n";
  return text.empty() ? "ok\n" : text;
}

}  // namespace imsy::snapshotter
