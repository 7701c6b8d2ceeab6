// Snapshotter: containerd's snapshot semantics, without gRPC.
//
// Ordinary images work as with containerd's overlayfs snapshotter. A layer whose labels prove that
// it belongs to an imsy image is not unpacked: its snapshot is committed at once, and containers
// get the image's lazy tree as the lower directory of their overlay.
//
// Promises
//   * What a call acknowledged survives a crash; what a crash leaves behind is removed at start.
//   * An image's layers are all lazy or all ordinary: the bottom one decides, the rest follow the
//     kind of their parent.
//   * The mounts of a snapshot stay the same as long as it lives.
//   * Only prepare() may wait for the network, and only when may_wait() says so, until its
//   deadline.
// Threads: all methods from any thread.
// Source: containerd core/snapshots (contract), core/snapshots/storage (behaviour).
// On disk: layout.h.
#pragma once

#include <atomic>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "common/thread_pool.h"
#include "snapshotter/database.h"
#include "snapshotter/images.h"
#include "snapshotter/layout.h"
#include "snapshotter/mounts.h"

namespace imsy::snapshotter {

struct PrepareRequest {
  std::string key;
  std::string parent;  // "": none
  Labels labels;
  std::string name_space;  // of the client; "" when unknown
};

// What Update may change; see Snapshotter::update.
struct UpdateRequest {
  std::string key;
  Labels labels;
  std::vector<std::string> mask;  // empty: everything that can be changed
};

struct SnapshotterOptions {
  // What containers write need not survive a crash of the machine; a label can say the same of one.
  bool volatile_containers = false;
  std::string boot_id;  // of the running kernel
};

// A snapshot, and why it is as it is.
struct Explained {
  Row row;
  std::vector<Row> parents;  // nearest first
};

class Snapshotter {
 public:
  // `root` exists. Removes what a crash left. `images` and `database` outlive the snapshotter.
  static Result<std::unique_ptr<Snapshotter>> open(const Layout& layout, Database& database,
                                                   Images& images,
                                                   const SnapshotterOptions& options = {});
  // Interrupts deletions that are under way; the next start goes on with them.
  ~Snapshotter();

  // Whether prepare() may wait for the network.
  static bool may_wait(const PrepareRequest& request) { return has_claim(request.labels); }

  // A new active snapshot and its mounts. kAlreadyExists: the key exists, or the layer named by the
  // label snapshot.ref is here, committed on this parent. kNotFound, kInvalid: the parent is
  // missing or not committed.
  Result<std::vector<Mount>> prepare(const PrepareRequest& request, Deadline deadline);
  // The same, read-only, without the handshake over layers.
  Result<std::vector<Mount>> view(const PrepareRequest& request);
  // The mounts of an active snapshot or view once more. kFailedPrecondition: committed, or volatile
  // and from before the last boot.
  Result<std::vector<Mount>> mounts(const std::string& key);

  // Errors as Database::commit.
  Status commit(const std::string& key, const std::string& name, const Labels& labels,
                const std::string& parent);
  // The key is free at once; its directory is deleted in the background. Errors as
  // Database::remove.
  Status remove(const std::string& key);

  Result<Info> stat(const std::string& key);
  // What stat() and usage() would answer, if that can be told without waiting.
  std::optional<Info> known_info(const std::string& key) const;
  std::optional<Usage> known_usage(const std::string& key) const;
  // Mask entries are "labels" (all are replaced) or "labels.<key>". An empty value, or a key that
  // is masked and absent, deletes the label. kInvalid: any other entry.
  Result<Info> update(const UpdateRequest& request);
  // kInvalid: a malformed filter.
  Result<std::vector<Info>> list(const std::vector<std::string>& filters);
  // Of the snapshot alone, without parents; an active one is measured now.
  Result<Usage> usage(const std::string& key);
  // All that `name` may mean, as Database::find_keys().
  Result<std::vector<Explained>> explain(const std::string& name);
  // Returns when what was removed before is deleted, or at `deadline` with kTimeout.
  Status cleanup(Deadline deadline);

 private:
  Snapshotter(const Layout& layout, Database& database, Images& images,
              const SnapshotterOptions& options)
      : layout_(layout), database_(database), images_(images), options_(options) {}

  Result<bool> reuse(const PrepareRequest& request, Deadline deadline);
  Result<bool> find_and_renew(const PrepareRequest& request, Deadline deadline);
  Result<bool> holds_data_of(const std::string& key, std::int64_t slot);
  Status may_give(const ImageRecord& image, const PrepareRequest& request, Deadline deadline);
  template <typename Work>
  std::invoke_result_t<Work> with_room(Work work);
  Status take_lazily(const PrepareRequest& request, Deadline deadline);
  Result<Row> record(const PrepareRequest& request, const Claim& claim, const ImageRecord& image);
  Result<std::vector<Mount>> create(const PrepareRequest& request, Kind kind,
                                    const std::string& reason = {});
  bool wants_volatile(const PrepareRequest& request, Kind kind) const;
  Status make_durable(const std::string& key, const Row& row) const;
  Status reuse_volatile(const std::string& key, const Layer& own) const;
  Result<Below> live_below(const std::vector<Layer>& chain);
  Result<Owner> owner_over(const Labels& labels, const Below& below);
  Result<std::int64_t> make_directory(Kind kind, const Owner& owner);
  void delete_later(std::int64_t directory);
  Status sweep();

  const Layout layout_;
  Database& database_;
  Images& images_;
  const SnapshotterOptions options_;
  const OverlayOptions overlay_ = probe_overlay();
  // Numbers of directories: larger than all that are on disk or in the database, so that one that
  // is still being deleted is never taken for a new one.
  std::atomic<std::int64_t> next_directory_{1};
  std::stop_source stop_;
  ThreadPool sweeper_{"sweep", 1};  // its tasks use what is above
};

}  // namespace imsy::snapshotter
