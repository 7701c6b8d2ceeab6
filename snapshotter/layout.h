// Layout: the one place that spells the paths below the snapshotter's root.
//
//   lock                 flock of the running daemon, never deleted; holds its pid
//   snapshots.db         the database (and -wal, -shm)
//   snapshots/<n>/fs     content of an ordinary snapshot; upper directory of an active one
//   snapshots/<n>/work   overlay's work directory
//   mnt/<slot>           the lazy tree, one directory per image
//   store/               the store of file contents
//   profiles/            what was read first of an image
//   scrub                how far the store has been read through
// Threads: plain values.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

namespace imsy::snapshotter {

class Layout {
 public:
  explicit Layout(std::filesystem::path root) : root_(std::move(root)) {}

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path database() const { return root_ / "snapshots.db"; }
  std::filesystem::path store() const { return root_ / "store"; }
  std::filesystem::path profiles() const { return root_ / "profiles"; }
  std::filesystem::path scrub() const { return root_ / "scrub"; }
  std::filesystem::path mount_point() const { return root_ / "mnt"; }
  std::filesystem::path slot(std::int64_t slot) const {
    return mount_point() / std::to_string(slot);
  }
  std::filesystem::path snapshots() const { return root_ / "snapshots"; }
  std::filesystem::path snapshot(std::int64_t directory) const {
    return snapshots() / std::to_string(directory);
  }
  std::filesystem::path fs(std::int64_t directory) const { return snapshot(directory) / "fs"; }
  std::filesystem::path work(std::int64_t directory) const { return snapshot(directory) / "work"; }

 private:
  std::filesystem::path root_;
};

}  // namespace imsy::snapshotter
