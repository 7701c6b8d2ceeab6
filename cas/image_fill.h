// ImageFill: makes one image resident in the background. Internal to cas.
//
// A round looks which objects are incomplete, copies what other objects of the store have, fetches
// the frames of the rest in large runs, and looks again; a round that finds nothing missing marks
// the image resident. A round in which the source failed is followed by a pause.
// Threads: all methods from any thread; the work is done on the fetcher's threads, in slices, so
// that readers' work goes first.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "cas/fetch_core.h"

namespace imsy::cas {

class ImageFill : public std::enable_shared_from_this<ImageFill> {
 public:
  ImageFill(std::shared_ptr<FetchCore> core, std::shared_ptr<ImageState> image)
      : core_(core), image_(std::move(image)) {}

  void start(std::function<void(Status)> done);
  // Tells all who wait kCancelled; nothing more is begun.
  void end();

 private:
  void begin_round();
  void look(std::uint32_t object);
  void look_at(std::uint32_t object);
  void plan_fetches();
  void fetch_more();
  void fetched(const Status& outcome);
  void end_round();
  void pause();
  void finish(const Status& outcome);
  void submit(void (ImageFill::*step)());

  const std::weak_ptr<FetchCore> core_;
  const std::shared_ptr<ImageState> image_;

  Mutex mu_;
  std::vector<std::function<void(Status)>> waiting_ IMSY_GUARDED_BY(mu_);
  bool running_ IMSY_GUARDED_BY(mu_) = false;
  bool resident_ IMSY_GUARDED_BY(mu_) = false;
  std::vector<FrameRun> runs_ IMSY_GUARDED_BY(mu_);  // still to fetch, the next one last
  unsigned open_ IMSY_GUARDED_BY(mu_) = 0;           // requests in flight
  bool failed_ IMSY_GUARDED_BY(mu_) = false;         // in this round

  // Of the round's looking, which one task at a time does.
  std::vector<bool> frames_;
  bool missing_ = false;
  unsigned rounds_without_luck_ = 0;
};

}  // namespace imsy::cas
