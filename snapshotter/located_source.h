// LocatedSource: the BlobSource of one image, which finds out by itself where to read from.
//
// It asks the places that worked before. When there are none, or they refuse or fail, it has the
// image located anew (not more often than every 10 s) and asks once more; meanwhile reads wait
// here. Threads: as BlobSource. close() from any thread.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "cas/blob_source.h"
#include "common/mutex.h"

namespace imsy::snapshotter {

class LocatedSource : public cas::BlobSource, public std::enable_shared_from_this<LocatedSource> {
 public:
  using Located = std::function<void(Result<std::shared_ptr<cas::BlobSource>>)>;
  // Starts to locate the image and returns; `located` is called later, at most once, from any
  // thread. Not called any more once close() has returned.
  using Locate = std::function<void(Located located)>;

  // `source` may be null.
  LocatedSource(std::shared_ptr<cas::BlobSource> source, Locate locate)
      : source_(std::move(source)), locate_(std::move(locate)) {}

  ~LocatedSource() override { close(); }

  void read(const cas::BlobRange& range, Done done) override;

  // Reads that wait, and all that come later, end with kCancelled. When it returns, no registry is
  // used any more but by requests that were sent before. Not from inside read() of a source.
  void close();

 private:
  using Clock = std::chrono::steady_clock;
  struct Waiting {
    cas::BlobRange range;
    Done done;
  };

  // Asks the source, if there is one, in a way that close() can wait for.
  void ask(const cas::BlobRange& range, Done done);
  void on_failure(const cas::BlobRange& range, Done done, Error error);
  void on_located(Result<std::shared_ptr<cas::BlobSource>> located);

  Mutex mu_;
  std::shared_ptr<cas::BlobSource> source_ IMSY_GUARDED_BY(mu_);
  Locate locate_ IMSY_GUARDED_BY(mu_);  // empty once closed
  bool locating_ IMSY_GUARDED_BY(mu_) = false;
  Clock::time_point not_before_ IMSY_GUARDED_BY(mu_) = Clock::time_point::min();
  std::vector<Waiting> waiting_ IMSY_GUARDED_BY(mu_);
  unsigned asking_ IMSY_GUARDED_BY(mu_) = 0;  // calls of a source's read()
  CondVar asked_;
};

}  // namespace imsy::snapshotter
