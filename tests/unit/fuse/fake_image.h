// FakeImage: an image made in memory whose reads a test can hold back, let go and fail.
//
// A real CDC manifest stands behind it, so that the tree is what a node would mount. Threads: all
// methods of FakeImage from any thread; the builder belongs to one.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cas/fetcher.h"
#include "cdc/manifest.h"
#include "common/mutex.h"

namespace imsy::fuse::testing {

class FakeImage final : public cas::Image {
 public:
  // `contents` by object index.
  FakeImage(std::shared_ptr<const cdc::Manifest> manifest, std::vector<std::string> contents);

  const std::shared_ptr<const cdc::Manifest>& manifest() const override { return manifest_; }
  std::uint64_t read(std::uint32_t object, std::uint64_t offset, std::uint32_t length,
                     ReadDone done) override;
  void cancel(std::uint64_t read) override;
  void fill(std::function<void(Status)> done) override;
  std::string trust_domain() const override { return {}; }
  void prefetch(std::vector<std::uint32_t>) override {}
  cas::FetchStats stats() const override { return {}; }

  // Reads of `object` wait from now on.
  void hold(std::uint32_t object);
  // Answers the waiting reads of `object` on the calling thread; later ones do not wait.
  void let_go(std::uint32_t object);
  // The same with an error for the waiting ones.
  void fail_waiting(std::uint32_t object, const Error& error);
  // Reads of `object` fail from now on; nullopt ends that.
  void fail(std::uint32_t object, std::optional<Error> error);
  // Reads of `object` get one byte less than they ask for.
  void cut_short(std::uint32_t object);
  // cancel() only counts: a fetcher that is slow to give up.
  void ignore_cancel();

  // Waits until `count` reads wait at the same time.
  void wait_for_waiting(std::size_t count);
  // Waits until cancel() was called `count` times.
  void wait_for_cancels(std::size_t count);
  std::size_t waiting() const;
  std::size_t cancels() const;

 private:
  struct Waiting {
    std::uint32_t object = 0;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;
    ReadDone done;
  };
  Bytes bytes(std::uint32_t object, std::uint64_t offset, std::uint32_t length) const
      IMSY_REQUIRES(mu_);
  std::vector<Waiting> take_waiting(std::uint32_t object) IMSY_REQUIRES(mu_);

  const std::shared_ptr<const cdc::Manifest> manifest_;
  const std::vector<std::string> contents_;

  mutable Mutex mu_;
  CondVar changed_;
  std::set<std::uint32_t> held_ IMSY_GUARDED_BY(mu_);
  std::set<std::uint32_t> short_ IMSY_GUARDED_BY(mu_);
  std::map<std::uint32_t, Error> failing_ IMSY_GUARDED_BY(mu_);
  std::map<std::uint64_t, Waiting> waiting_ IMSY_GUARDED_BY(mu_);
  std::uint64_t last_number_ IMSY_GUARDED_BY(mu_) = 0;
  std::size_t cancels_ IMSY_GUARDED_BY(mu_) = 0;
  bool ignore_cancel_ IMSY_GUARDED_BY(mu_) = false;
};

// What all kinds of nodes have in common.
struct Look {
  std::uint16_t mode = 0755;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime_s = 0;
  std::uint32_t mtime_ns = 0;
  std::vector<cdc::Xattr> xattrs = {};
};

// Collects a tree with contents and makes an image of it. A mistake in it ends the test.
class ImageBuilder {
 public:
  using Node = cdc::TreeBuilder::NodeId;
  static constexpr Node kRoot = cdc::TreeBuilder::kRoot;

  explicit ImageBuilder(const Look& root = {});
  Node directory(Node parent, const std::string& name, const Look& look = {});
  Node file(Node parent, const std::string& name, std::string content, const Look& look = {});
  Node symlink(Node parent, const std::string& name, const std::string& target,
               const Look& look = {});
  Node device(Node parent, const std::string& name, cdc::NodeType type, std::uint32_t major,
              std::uint32_t minor, const Look& look = {});
  Node fifo(Node parent, const std::string& name, const Look& look = {});
  void link(Node parent, const std::string& name, Node node);

  std::shared_ptr<FakeImage> build();

 private:
  cdc::TreeBuilder tree_;
  std::vector<std::string> contents_;
  std::map<std::string, std::uint32_t> objects_;  // by content
};

// The inode index of the file at `path` ("a/b", "" is the root). Fails the test when there is none.
std::uint32_t inode_at(const cas::Image& image, const std::string& path);
// Its object index.
std::uint32_t object_at(const cas::Image& image, const std::string& path);

}  // namespace imsy::fuse::testing
