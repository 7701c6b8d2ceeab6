// NodeImages: the imsy images of this node: their CDC manifests in the store, their trees live,
// their content on its way.
//
// Promises
//   * An image is live (in the lazy tree) at most once, and only while the database has it.
//   * After a crash, store and database agree again: what the database does not have leaves the
//     store.
//   * A known image that is not public is given to a pull only when the registry that it came from
//     has just answered an authenticated request for it.
//   * An image whose manifest is damaged in the store is fetched again, in the background.
// Threads: all methods from any thread; create, start, stop and destroy from one. Two pools:
//   images   attaching, detaching, store records; waits for the disk
//   locate   asks containerd and registries; waits for them, with deadlines
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "cas/fetcher.h"
#include "cas/store.h"
#include "common/mutex.h"
#include "common/thread_pool.h"
#include "fuse/image_fs.h"
#include "snapshotter/database.h"
#include "snapshotter/images.h"
#include "snapshotter/keyed_locks.h"
#include "snapshotter/lazy_tree.h"
#include "snapshotter/manifest_fetch.h"
#include "snapshotter/profiles.h"
#include "snapshotter/recent_checks.h"
#include "snapshotter/recorded_image.h"
#include "snapshotter/registry_finder.h"

namespace imsy::snapshotter {

class NodeImages final : public Images {
 public:
  // What it is made of; everything outlives it.
  struct Parts {
    Database& database;
    cas::Store& store;
    cas::Fetcher& fetcher;
    fuse::ImageFs& fs;
    LazyTree& tree;
    RegistryFinder& finder;
    Profiles* profiles = nullptr;  // null: nothing is recorded
    bool background_fill = true;
    bool record_profiles = true;
  };
  explicit NodeImages(const Parts& parts) : parts_(parts) {}
  // stop().
  ~NodeImages() override;

  // Brings the store in line with the database and makes all images live, in the background.
  void start();
  // Ends all waiting; calls from then on fail. Images stay live for who still reads them, without
  // registries.
  void stop();

  Result<std::unique_ptr<Admission>> admit(const Claim& claim, const std::string& name_space,
                                           Deadline deadline) override;
  Status may_give(const ImageRecord& image, const PulledFrom& pull, Deadline deadline) override;
  Status make_live(std::int64_t slot) override;
  Result<Owner> root_owner(std::int64_t slot) override;
  void complete(std::int64_t slot) override;
  void use(std::int64_t slot) override;
  bool make_room() override;
  void release(const ImageRecord& image) override;

  // Fills those images again that were resident and have lost content since, unless it gave way for
  // want of room. To be called now and then; waits for the disk.
  void fill_what_was_lost();
  // Fetches the CDC manifest of this image again, in the background. kNotFound: no image has it.
  Status repair_manifest(const Digest& manifest);
  // Whether such work is under way.
  bool repairing() const;
  // Whether images are filled at all.
  bool fills() const { return parts_.background_fill; }
  // Writes down of which images the content has turned out not to be public. To be called now and
  // then, by one thread; waits for the disk.
  void note_trust_domains();
  // Writes down what was noted of images' starts. To be called once a second; waits for the disk.
  void write_recordings();

  struct ImageStats {
    Digest manifest;
    std::int64_t slot = 0;
    bool resident = false;
    std::uint64_t objects = 0;
  };
  // Of the live images, by slot. Waits for the disk.
  std::vector<ImageStats> stats() const;

  // How one image is doing. Waits for the disk.
  struct ImageFacts {
    ImageRecord record;
    std::vector<Source> sources;  // that worked, the latest first
    bool live = false;
    bool resident = false;
    bool shrunk = false;
    bool filling = false;
    cas::FetchStats fetched;  // since it is live
  };
  // kNotFound.
  Result<ImageFacts> facts(std::int64_t slot) const;

 private:
  class NodeAdmission;
  enum class Filling { kNot, kNow, kDone };
  struct Live {
    ImageRecord record;
    std::shared_ptr<cas::Image> image;
    std::shared_ptr<RecordedImage> recorded;  // the same for the lazy tree; null: not recorded
    std::string trust_domain;  // on record; for the thread that calls note_trust_domains()
    std::atomic<Filling> filling = Filling::kNot;
  };
  struct Fetched {
    cdc::FetchedManifest manifest;
    Source source;                // gave it
    std::vector<Source> sources;  // may have the image, best first
    std::string trust_domain;
  };

  std::shared_ptr<Live> find_live(std::int64_t slot) const;
  std::vector<std::shared_ptr<Live>> all_live() const;
  Result<ImageQuery> query_for(const ImageRecord& record);
  Result<Fetched> fetch(const cdc::Anchor& anchor, const ImageQuery& query, Deadline deadline);
  // The registry that the image came from gives a byte of it to this pull.
  Status ask_for_access(const ImageRecord& image, const PulledFrom& pull, Deadline deadline);
  // With the image's lock held:
  Status attach(const ImageRecord& record, const cdc::Anchor& anchor,
                std::shared_ptr<const cdc::Manifest> manifest, const std::vector<Source>& sources);
  void detach(std::int64_t slot);
  void forget(const Digest& manifest);

  // False: it is stopping.
  bool submit_image_work(std::function<void()> task);
  bool submit_locate(std::function<void()> task);
  void locate(std::int64_t slot, const cas::Located& located);
  Result<cas::Places> locate_now(std::int64_t slot);
  std::shared_ptr<cas::BlobSource> place(const Source& source,
                                         std::shared_ptr<oci::Registry> registry) const;
  cas::Places places(const std::vector<Source>& sources) const;
  Result<Fetched> fetch_from(const Source& source, const cdc::Anchor& anchor, Deadline deadline);
  void fill(const std::shared_ptr<Live>& live, Filling from = Filling::kNot);
  bool is_shrunk(const Digest& manifest) const;
  void reconcile();
  void repair_later(const ImageRecord& record);
  Status repair(const ImageRecord& record);

  // constant after construction
  const Parts parts_;
  std::stop_source stop_;

  // synchronises itself
  KeyedLocks locks_;    // by CDC manifest
  RecentChecks shown_;  // for whom which registry has given private content

  mutable Mutex mu_;
  std::map<std::int64_t, std::shared_ptr<Live>> live_ IMSY_GUARDED_BY(mu_);
  std::set<std::int64_t> repairing_ IMSY_GUARDED_BY(mu_);

  // Last, so that their threads end first.
  std::unique_ptr<ThreadPool> images_ IMSY_GUARDED_BY(mu_) = std::make_unique<ThreadPool>("images",
                                                                                          2);
  std::unique_ptr<ThreadPool> locate_ IMSY_GUARDED_BY(mu_) = std::make_unique<ThreadPool>("locate",
                                                                                          4);
};

}  // namespace imsy::snapshotter
