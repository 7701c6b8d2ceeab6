// Images: what the state machine needs of the imsy images on this node.
//
// Implemented by node_images.h, by no_images.h where lazy trees cannot be mounted, and by a fake in
// the tests of the state machine.
// Threads: all methods from any thread.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "common/result.h"
#include "snapshotter/database.h"
#include "snapshotter/proof.h"

namespace imsy::snapshotter {

using Deadline = std::chrono::steady_clock::time_point;

// Keeps an image from being removed while its snapshot is recorded. Letting go of it without
// recorded() undoes what was prepared for a new image.
class Admission {
 public:
  virtual ~Admission() = default;
  // What to record; the slot of a known image is not in it.
  virtual const ImageRecord& image() const = 0;
  // The snapshot is in the database, its image has this slot. May wait for the disk.
  virtual void recorded(std::int64_t slot) = 0;
};

// Where a pull says that it has its image from; claims, not proofs.
struct PulledFrom {
  std::string name_space;        // containerd's
  std::optional<Digest> config;  // of the image
  std::string image_ref;
};

struct Owner {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

class Images {
 public:
  virtual ~Images() = default;

  // Has the claimed image's CDC manifest in the store, verified and remembered. Known images must
  // be given (see may_give); for others the manifest is fetched, which may wait until `deadline`.
  // Any error means that the image cannot be served lazily now; the message says why. kCancelled:
  // stopping.
  virtual Result<std::unique_ptr<Admission>> admit(const Claim& claim,
                                                   const std::string& name_space,
                                                   Deadline deadline) = 0;

  // Whether the image, which is here already, may be given to this pull. Anybody gets one that is
  // public; else the registry that it came from has answered an authenticated request for it, now
  // or moments ago, which may wait until `deadline`. While that cannot be asked, the namespace that
  // had it last has it still. kDenied: it may not; the message says why.
  virtual Status may_give(const ImageRecord& image, const PulledFrom& pull, Deadline deadline) = 0;

  // Returns when <mount point>/<slot> shows the image's tree. Waits for the disk, not for the
  // network. kUnavailable: it cannot be shown now.
  virtual Status make_live(std::int64_t slot) = 0;
  // Owner of the root directory of a live image.
  virtual Result<Owner> root_owner(std::int64_t slot) = 0;

  // All layers of the image are committed: its content is wanted on this node. Never waits.
  virtual void complete(std::int64_t slot) = 0;
  // A container stands on the image: it is wanted again if content of it gave way. Never waits.
  virtual void use(std::int64_t slot) = 0;
  // No room was found for what a snapshot needs: content of images gives way to it. True: there is
  // some. Waits for the disk.
  virtual bool make_room() = 0;
  // The image's last snapshot was removed from the database. What it has in memory and in the
  // store is taken away in the background. Never waits.
  virtual void release(const ImageRecord& image) = 0;
};

}  // namespace imsy::snapshotter
