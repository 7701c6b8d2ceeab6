// Database: what was promised to containerd, durable: snapshots, labels, and imsy's images.
//
// Promises
//   * Every change is one transaction and survives a power cut when the call returns success.
//   * The snapshots form trees: a parent exists, is committed, and cannot go before its children.
//   * Ids of snapshots and slots of images are never given out twice.
//   * Labels are containerd's. What imsy itself must know stands in columns of its own, because a
//     client may replace all labels.
// Threads: all methods from any thread. All wait for the disk, none for the network. A change waits
//   for the changes before it; reading does not wait for changes.
// On disk: docs/format/snapshot-database.md. A database of a newer version is refused.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/mutex.h"
#include "common/result.h"
#include "snapshotter/filter.h"
#include "snapshotter/row_cache.h"
#include "snapshotter/sqlite.h"
#include "snapshotter/types.h"

namespace imsy::snapshotter {

// How the parents of an active snapshot or a view are shown; chosen once per snapshot.
enum class MountKind : std::uint8_t {
  kPlain = 0,  // directories of ordinary layers only
  kLazy = 1,   // an imsy image below, through the lazy tree
};

// An imsy image that snapshots refer to.
struct ImageRecord {
  std::int64_t slot = 0;  // names its directory in the lazy tree; given by the database
  Digest anchor_layer;    // diffID of the anchor layer, which determines everything else
  std::string anchor_text;
  std::uint32_t data_layers = 0;
  Digest manifest;           // of the CDC manifest; several anchors may name the same
  std::string trust_domain;  // "" for content that anybody may fetch
  // Where to ask containerd about the image; the last pull's.
  std::string name_space;
  std::optional<Digest> config;
};

// A registry repository that held an image's blobs.
struct Source {
  std::string host;  // as in references
  std::string repository;
  std::string endpoint;  // root of the API: "https://registry.example/v2"
  bool operator==(const Source&) const = default;
};

// A snapshot's place in an imsy image.
struct ImageLink {
  std::int64_t slot = 0;
  std::uint32_t link = 0;  // 0: anchor layer; i + 1: data layer i
  bool top = false;        // the last data layer: shows the image's tree
};

struct Row {
  std::int64_t id = 0;
  std::optional<std::int64_t> directory;  // its number below snapshots/; none for data layers
  Info info;
  Usage usage;
  MountKind mount = MountKind::kPlain;
  std::optional<ImageLink> image;
  std::string reason;              // why a layer that claims to be imsy's was unpacked; else ""
  std::string volatile_boot = {};  // as of NewSnapshot
};

// One snapshot of a chain.
struct Layer {
  std::int64_t id = 0;
  std::optional<std::int64_t> directory;
  Kind kind = Kind::kCommitted;
  std::optional<ImageLink> image;
  std::string volatile_boot = {};  // as of NewSnapshot
};

class Database {
 public:
  // Opens or creates the database. kFailedPrecondition: written by a newer program. kCorrupt: not a
  // database, or damaged; the message says what to do.
  static Result<std::unique_ptr<Database>> open(const std::filesystem::path& path);

  // --- reading; kNotFound when there is no such key ---
  Result<Row> get(const std::string& key);
  // The same, without a copy; most often without a query.
  Result<std::shared_ptr<const Row>> find(const std::string& key);
  // Null: it takes a query to tell. Never waits.
  std::shared_ptr<const Row> known(const std::string& key) const { return rows_.find(key); }
  // Keys of snapshots that `name` may mean: its key, what stands behind the key's last slash or
  // space (a container's name, a chainID), or the chainID of an imsy image's layer. At most 16.
  Result<std::vector<std::string>> find_keys(const std::string& name);
  // The snapshot and its ancestors, nearest first.
  Result<std::vector<Layer>> chain(const std::string& key);
  // Those that match, snapshots of imsy images first. One consistent state.
  Result<std::vector<Info>> list(const Filter& filter);
  // The committed snapshot of an imsy image with this chainID on this parent ("": none).
  Result<std::optional<Row>> find_image_snapshot(const std::string& chain_id,
                                                 const std::string& parent);
  Result<std::vector<ImageRecord>> images();
  Result<std::optional<ImageRecord>> find_image(const Digest& anchor_layer);
  Result<ImageRecord> image(std::int64_t slot);
  // Whether any image has this CDC manifest.
  Result<bool> has_manifest(const Digest& manifest);
  // Whether the image's last data layer is committed.
  Result<bool> is_complete(std::int64_t slot);
  // Repositories that worked for the image, the latest first.
  Result<std::vector<Source>> sources(std::int64_t slot);
  // The directories of all snapshots.
  Result<std::set<std::int64_t>> directories();
  // How many snapshots there are of each kind.
  Result<std::map<Kind, std::uint64_t>> count_kinds();
  // Whether no change is accepted until a restart, because one could not be written.
  bool is_broken() const { return broken_; }
  // Random bytes in hex, made once for this database.
  const std::string& node_secret() const { return node_secret_; }

  // --- changing ---
  struct NewSnapshot {
    std::string key;
    Kind kind = Kind::kActive;
    std::string parent;
    std::optional<std::int64_t> parent_id;  // as chain(parent) said
    Labels labels;
    std::string name_space;
    MountKind mount = MountKind::kPlain;
    std::int64_t directory = 0;  // exists, durably
    std::string reason;          // why it is not lazy although it claims to be imsy's; else ""
    // When it is mounted volatile: the boot in which it was made. Else "".
    std::string volatile_boot;
  };
  // kNotFound: parent. kInvalid: parent not committed. kAlreadyExists: key.
  Status create(const NewSnapshot& snapshot);

  // Turns the active snapshot `key` into the committed `name`, with these labels instead of its
  // own; it is not volatile any more. `parent` is "" or the parent it has, or, when it has none,
  // the one it gets. kAlreadyExists: name. kNotFound: key, or parent. kFailedPrecondition: not
  // active, or parent not committed. kInvalid: it has another parent.
  Status commit(const std::string& key, const std::string& name, const Labels& labels,
                const std::string& parent, const Usage& usage);

  struct Removed {
    std::optional<std::int64_t> directory;
    std::optional<ImageRecord> image;  // this was the last snapshot of the image
  };
  // kNotFound. kFailedPrecondition: it has children.
  Result<Removed> remove(const std::string& key);

  // An empty value deletes the label.
  struct LabelUpdate {
    bool replace_all = false;
    Labels values;
  };
  // The snapshot afterwards. kNotFound.
  Result<Info> update_labels(const std::string& key, const LabelUpdate& update);

  struct NewImageSnapshot {
    ImageRecord image;  // its slot is not read
    std::uint32_t link = 0;
    std::string chain_id;
    std::string parent;
    Labels labels;
    std::optional<std::int64_t> directory;
  };
  // Records a committed snapshot of an imsy image under a name of our own, and the image with it.
  // When there is one for this chainID and parent: that one. kNotFound: parent.
  Result<Row> add_image_snapshot(const NewImageSnapshot& snapshot);

  // The image was pulled again: where to ask about it now. Unknown slot: no error.
  Status touch_image(std::int64_t slot, const std::string& name_space,
                     const std::optional<Digest>& config);
  Status remember_source(std::int64_t slot, const Source& source);
  Status set_trust_domain(std::int64_t slot, const std::string& trust_domain);
  // True when the machine was booted since the last call.
  Result<bool> note_boot(const std::string& boot_id);

 private:
  Database(Sqlite writer, Sqlite reader) : writer_(std::move(writer)), reader_(std::move(reader)) {}
  Status prepare_schema(const std::filesystem::path& path);
  // Runs `change` in one transaction. `keys` are those whose rows it may have changed.
  Status change(const std::function<Status(Sqlite&)>& change,
                std::initializer_list<std::string> keys = {});
  Status change_now(const std::function<Status(Sqlite&)>& change);

  Mutex writer_mu_;  // held while a change is written to disk
  Sqlite writer_ IMSY_GUARDED_BY(writer_mu_);
  std::atomic<bool> broken_{false};  // a commit failed; what is on disk is unknown
  Mutex reader_mu_;
  Sqlite reader_ IMSY_GUARDED_BY(reader_mu_);
  RowCache<Row> rows_;
  std::string node_secret_;  // constant after open
};

}  // namespace imsy::snapshotter
