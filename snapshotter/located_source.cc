#include "snapshotter/located_source.h"

#include <utility>

namespace imsy::snapshotter {
namespace {

// Locating asks containerd and registries; nothing is won by doing that more often.
constexpr std::chrono::seconds kLocateInterval{10};

// Failures that another place may not have.
bool may_be_elsewhere(Errc code) {
  return code == Errc::kNotFound || code == Errc::kDenied || code == Errc::kUnavailable ||
         code == Errc::kTimeout || code == Errc::kInvalid;
}

}  // namespace

void LocatedSource::read(const cas::BlobRange& range, Done done) {
  ask(range, [self = shared_from_this(), range, done](Result<Bytes> bytes) {
    if (bytes || !may_be_elsewhere(bytes.error().code())) {
      done(std::move(bytes));
    } else {
      self->on_failure(range, done, std::move(bytes).error());
    }
  });
}

void LocatedSource::ask(const cas::BlobRange& range, Done done) {
  std::shared_ptr<cas::BlobSource> source;
  {
    MutexLock lock(mu_);
    source = source_;
    if (source != nullptr) ++asking_;
  }
  if (source == nullptr) {
    done(Error(Errc::kUnavailable, "no registry is known for it"));
    return;
  }
  source->read(range, std::move(done));
  source = nullptr;
  MutexLock lock(mu_);
  if (--asking_ == 0) asked_.notify_all();
}

// The read waits until the image has been located, or fails when that was tried just now.
void LocatedSource::on_failure(const cas::BlobRange& range, Done done, Error error) {
  {
    MutexLock lock(mu_);
    const bool closed = !locate_;
    if (closed) error = Error(Errc::kCancelled, "the image is not served any more");
    if (!closed && !locating_ && Clock::now() >= not_before_) {
      locating_ = true;
      // Under the lock, so that close() knows it is over.
      locate_([weak = weak_from_this()](Result<std::shared_ptr<cas::BlobSource>> located) {
        if (const auto self = weak.lock()) self->on_located(std::move(located));
      });
    }
    if (!closed && locating_) {
      waiting_.push_back({range, std::move(done)});
      done = nullptr;
    }
  }
  if (done) done(std::move(error));
}

void LocatedSource::on_located(Result<std::shared_ptr<cas::BlobSource>> located) {
  std::vector<Waiting> waiting;
  {
    MutexLock lock(mu_);
    locating_ = false;
    not_before_ = Clock::now() + kLocateInterval;
    waiting.swap(waiting_);
    if (located && locate_) source_ = *located;
  }
  for (Waiting& read : waiting) {
    if (located) {
      ask(read.range, std::move(read.done));
    } else {
      read.done(located.error());
    }
  }
}

void LocatedSource::close() {
  std::vector<Waiting> waiting;
  Locate last;
  {
    MutexLock lock(mu_);
    waiting.swap(waiting_);
    last.swap(locate_);
    source_ = nullptr;
    while (asking_ > 0) asked_.wait(mu_);
  }
  for (Waiting& read : waiting) {
    read.done(Error(Errc::kCancelled, "the image is not served any more"));
  }
}

}  // namespace imsy::snapshotter
