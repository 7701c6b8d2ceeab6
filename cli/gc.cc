#include "cli/gc.h"

#include <fmt/format.h>

#include "cli/stat.h"
#include "cli/text.h"

namespace imsy::cli {

Result<cas::Collected> collect_garbage(const std::filesystem::path& root) {
  // What is not there is not made.
  IMSY_TRY(read_stats(root));
  auto store = cas::Store::open(root / "store");
  if (!store && store.error().code() == Errc::kUnavailable) {
    return Error(Errc::kUnavailable,
                 store.error().message() +
                     "; while imsy-snapshotter runs it keeps the limits of its configuration by "
                     "itself, so stop it first or set quota_bytes");
  }
  if (!store) return store.error();
  return (*store)->collect();
}

std::string to_text(const cas::Collected& collected) {
  return fmt::format("deleted {} objects, {}\n", collected.objects, human_bytes(collected.bytes));
}

}  // namespace imsy::cli
