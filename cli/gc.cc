#include "cli/gc.h"

#include <fmt/format.h>

#include "cli/control.h"
#include "cli/stat.h"
#include "cli/text.h"

namespace imsy::cli {

Result<cas::Collected> collect_garbage(const std::filesystem::path& root,
                                       const std::filesystem::path& state) {
  // What is not there is not made.
  IMSY_TRY(read_stats(root));
  auto store = cas::Store::open(root / "store");
  if (store) return (*store)->collect();
  if (store.error().code() != Errc::kUnavailable) return store.error();
  IMSY_TRY_ASSIGN(ControlClient daemon, ControlClient::connect(state, root));
  return daemon.collect();
}

std::string to_text(const cas::Collected& collected) {
  return fmt::format("deleted {} objects, {}\n", collected.objects, human_bytes(collected.bytes));
}

}  // namespace imsy::cli
