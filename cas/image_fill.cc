#include "cas/image_fill.h"

#include <algorithm>
#include <utility>

#include "common/log.h"

namespace imsy::cas {
namespace {

constexpr std::uint32_t kSlice = 128;  // objects looked at before readers get their turn
constexpr std::chrono::milliseconds kPauseFirst{500};
constexpr std::chrono::milliseconds kPauseMax{60'000};

}  // namespace

void ImageFill::start(std::function<void(Status)> done) {
  bool begin = false;
  bool resident = false;
  {
    MutexLock lock(mu_);
    resident = resident_;
    if (!resident) {
      waiting_.push_back(std::move(done));
      begin = !std::exchange(running_, true);
    }
  }
  if (resident) return done({});
  if (begin) submit(&ImageFill::begin_round);
}

void ImageFill::end() {
  finish(Error(Errc::kCancelled, "the image was detached"));
}

void ImageFill::submit(void (ImageFill::*step)()) {
  const auto core = core_.lock();
  if (core == nullptr || core->stopped()) return end();
  core->queue().submit(Urgency::kBackground, [self = shared_from_this(), step] {
    if (!self->image_->detached) (self.get()->*step)();
  });
}

void ImageFill::begin_round() {
  const auto core = core_.lock();
  if (core == nullptr) return end();
  const auto known = core->store().is_resident(image_->manifest->digest());
  if (known && *known) return finish({});
  frames_.assign(image_->objects().frame_count(), false);
  missing_ = false;
  look(0);
}

// Looks at a slice of the objects, then lets others work.
void ImageFill::look(std::uint32_t object) {
  const std::uint32_t count = image_->objects().count();
  const std::uint32_t end = std::min(count, object + kSlice);
  for (; object < end; ++object) look_at(object);
  if (object == count) return plan_fetches();
  const auto core = core_.lock();
  if (core == nullptr) return this->end();
  core->queue().submit(Urgency::kBackground, [self = shared_from_this(), object] {
    if (!self->image_->detached) self->look(object);
  });
}

void ImageFill::look_at(std::uint32_t index) {
  const auto core = core_.lock();
  if (core == nullptr) return;
  const auto& objects = image_->objects();
  auto object = image_->object(core->store(), index);
  if (object && (*object)->complete()) return;
  const auto chunks = objects.chunks_of(index);
  const auto likely = core->store().likely_chunks(chunks, image_->trust_domain);
  for (std::uint32_t i = 0; i < chunks.size(); ++i) {
    const std::uint32_t chunk = objects.first_chunk(index) + i;
    if (object && (*object)->has_chunk(i)) continue;
    if (likely[i] && core->copy_chunk(*image_, index, chunk)) continue;
    frames_[objects.frame_of_chunk(chunk)] = true;
    missing_ = true;
  }
  if (!object || !(*object)->complete()) missing_ = true;
}

void ImageFill::plan_fetches() {
  const auto core = core_.lock();
  if (core == nullptr) return end();
  if (!missing_) {
    auto marked = core->store().mark_resident(*image_->manifest);
    if (marked) return finish({});
    log::warn("image {} is complete but not recorded as resident: {}",
              image_->manifest->digest().to_string(), marked.error().message());
    return pause();
  }
  std::vector<std::uint32_t> wanted;
  for (std::uint32_t f = 0; f < frames_.size(); ++f) {
    if (frames_[f]) wanted.push_back(f);
  }
  auto runs = plan_runs(image_->objects(), wanted, core->options().gap_max,
                        core->options().background_span);
  std::reverse(runs.begin(), runs.end());
  {
    MutexLock lock(mu_);
    runs_ = std::move(runs);
    failed_ = false;
    ++open_;  // this call itself, so that the round cannot end before all are begun
  }
  fetch_more();
  fetched({});
}

void ImageFill::fetch_more() {
  const auto core = core_.lock();
  if (core == nullptr) return end();
  for (;;) {
    FrameRun run;
    {
      MutexLock lock(mu_);
      if (runs_.empty() || failed_ || open_ >= core->options().background_requests + 1) return;
      run = runs_.back();
      runs_.pop_back();
      ++open_;
    }
    core->fetch_run(image_, run, Urgency::kBackground,
                    [self = shared_from_this()](const Status& outcome) { self->fetched(outcome); });
  }
}

void ImageFill::fetched(const Status& outcome) {
  bool ended = false;
  {
    MutexLock lock(mu_);
    if (!outcome && !std::exchange(failed_, true)) {
      log::warn("image {}: the background fill waits: {}", image_->manifest->digest().to_string(),
                outcome.error().message());
    }
    --open_;
    ended = open_ == 0 && (runs_.empty() || failed_);
  }
  if (ended) return submit(&ImageFill::end_round);
  if (!image_->detached) submit(&ImageFill::fetch_more);
}

void ImageFill::end_round() {
  bool failed = false;
  {
    MutexLock lock(mu_);
    failed = failed_;
  }
  if (failed || ++rounds_without_luck_ > 1) return pause();
  begin_round();
}

void ImageFill::pause() {
  const auto core = core_.lock();
  if (core == nullptr) return end();
  const unsigned doublings = std::min(rounds_without_luck_++, 7u);
  const auto length = std::min(kPauseMax, kPauseFirst * (1u << doublings));
  core->queue().at(WorkQueue::Clock::now() + length,
                   [self = shared_from_this()] { self->submit(&ImageFill::begin_round); });
}

void ImageFill::finish(const Status& outcome) {
  decltype(waiting_) waiting;
  {
    MutexLock lock(mu_);
    waiting.swap(waiting_);
    if (outcome) resident_ = true;
  }
  for (const auto& done : waiting) done(outcome);
}

}  // namespace imsy::cas
