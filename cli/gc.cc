#include "cli/gc.h"

#include <fmt/format.h>

#include "cli/control.h"
#include "cli/stat.h"
#include "cli/text.h"

namespace imsy::cli {

Result<cas::Collected> collect_garbage(const GcOptions& options) {
  const auto extent = options.shrink ? cas::Store::Extent::kShrink : cas::Store::Extent::kUnowned;
  const auto store = open_idle_store(options.root);
  if (store) return (*store)->collect(extent, options.bytes);
  if (store.error().code() != Errc::kUnavailable) return store.error();
  IMSY_TRY_ASSIGN(ControlClient daemon, ControlClient::connect(options.state, options.root));
  return daemon.collect(extent, options.bytes);
}

std::string to_text(const cas::Collected& collected) {
  return fmt::format("deleted {} objects, {}\n", collected.objects, human_bytes(collected.bytes));
}

}  // namespace imsy::cli
