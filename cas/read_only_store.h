// A store that another process may have open, for its numbers and manifests. Internal to cas.
#pragma once

#include <filesystem>
#include <memory>

#include "cas/layout.h"
#include "cas/store.h"

namespace imsy::cas {

// kNotFound: no store there.
Result<std::unique_ptr<Store>> open_read_only(const std::filesystem::path& root);

// Fills what only the files tell: partial objects, the trash, what is free.
Status add_file_stats(const Layout& layout, StoreStats& stats);

}  // namespace imsy::cas
