#include "snapshotter/mounts.h"

#include <unistd.h>

namespace imsy::snapshotter {
namespace {

Mount bind_mount(std::string source, bool writable) {
  return {"bind", std::move(source), {writable ? "rw" : "ro", "rbind"}};
}

std::string joined(const std::vector<std::string>& directories) {
  std::string text;
  for (const std::string& directory : directories) {
    if (!text.empty()) text += ':';
    text += directory;
  }
  return text;
}

}  // namespace

Result<Below> below(const Layout& layout, std::span<const Layer> chain) {
  Below below;
  for (const Layer& layer : chain) {
    // Also an anchor layer has a directory, which stays empty: it adds nothing.
    if (layer.directory) {
      below.directories.push_back(layout.fs(*layer.directory));
      continue;
    }
    if (!layer.image || !layer.image->top) {
      return Error(Errc::kFailedPrecondition,
                   "the parent ends inside an imsy image: only its last layer can be mounted");
    }
    below.directories.push_back(layout.slot(layer.image->slot));
    below.slot = layer.image->slot;
    below.kind = MountKind::kLazy;
    return below;
  }
  return below;
}

OverlayOptions probe_overlay() {
  OverlayOptions options;
  options.index_off = access("/sys/module/overlay/parameters/index", F_OK) == 0;
  return options;
}

std::vector<Mount> mounts_for(const Layout& layout, const OverlayOptions& options,
                              std::int64_t directory, Kind kind, const Below& below,
                              bool is_volatile) {
  const bool active = kind == Kind::kActive;
  if (below.directories.empty()) return {bind_mount(layout.fs(directory), active)};
  if (!active && below.directories.size() == 1) {
    return {bind_mount(below.directories.front(), false)};
  }
  Mount overlay{"overlay", "overlay", {}};
  if (active) {
    overlay.options.push_back("workdir=" + layout.work(directory).string());
    overlay.options.push_back("upperdir=" + layout.fs(directory).string());
    if (is_volatile) overlay.options.push_back("volatile");
  }
  overlay.options.push_back("lowerdir=" + joined(below.directories));
  if (options.index_off) overlay.options.push_back("index=off");
  return {std::move(overlay)};
}

}  // namespace imsy::snapshotter
