// The mounts that containerd has to make for a snapshot, as its overlayfs snapshotter gives them.
//
//   active, nothing below   bind <n>/fs, read-write
//   active                  overlay over what is below, upper <n>/fs
//   view, nothing below     bind <n>/fs, read-only
//   view, one directory     bind of that directory, read-only
//   view                    overlay without upper
// An imsy image is one directory, however many layers it has; ordinary layers may lie above it.
// Source: containerd plugins/snapshots/overlay.
// Threads: pure functions.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "snapshotter/database.h"
#include "snapshotter/layout.h"
#include "snapshotter/types.h"

namespace imsy::snapshotter {

// What is below a snapshot.
struct Below {
  std::vector<std::string> directories;  // nearest first
  MountKind kind = MountKind::kPlain;
  std::optional<std::int64_t> slot;  // of the imsy image at the bottom, whose tree must be live
};

// `chain` is the parent and its ancestors, nearest first. kFailedPrecondition: it ends inside an
// imsy image, of which only the whole can be shown.
Result<Below> below(const Layout& layout, std::span<const Layer> chain);

struct OverlayOptions {
  // The kernel's index feature, where it exists, must be off: it refuses a lower directory that
  // serves several overlays.
  bool index_off = false;
};
// Looks what the running kernel has.
OverlayOptions probe_overlay();

// Of the active snapshot or view with this directory. `is_volatile`: what is written need not
// survive a crash of the machine.
std::vector<Mount> mounts_for(const Layout& layout, const OverlayOptions& options,
                              std::int64_t directory, Kind kind, const Below& below,
                              bool is_volatile = false);

}  // namespace imsy::snapshotter
