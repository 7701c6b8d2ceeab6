// The background fill: makes an image resident, frame by frame, as long as it takes.
//
// A pass goes over all frames in their order. What lacks and is not on its way for somebody is
// copied when other objects have all of it, else requested in large ranges, of which all images
// together have a few in flight. A pass that leaves something out is followed by a pause and by
// another one, which finds most objects complete.
#include <algorithm>
#include <utility>

#include "cas/engine.h"
#include "common/log.h"

namespace imsy::cas {
namespace {

// What a step does before readers, and other images, get their turn.
constexpr std::uint32_t kStepFrames = 64;
constexpr std::uint64_t kStepCopied = 4u << 20;   // bytes
constexpr std::chrono::seconds kReadersAbout{1};  // since one has waited for bytes

}  // namespace

void Engine::fill(const ImagePtr& image, std::function<void(Status)> done) {
  bool attached = false;
  bool start = false;
  {
    MutexLock lock(image->mu);
    attached = image->attached;
    if (attached) {
      image->fill.done.push_back(std::move(done));
      start = !std::exchange(image->fill.active, true);
      if (start) image->fill.queued = true;  // nobody takes a step before it has begun
    }
  }
  if (!attached) return done(Error(Errc::kCancelled, "the image is not attached"));
  if (start) submit(Urgency::kBackground, &Engine::begin_fill, image);
}

void Engine::look_at_all(ImageState& image) {
  for (auto& complete : image.complete) complete = false;
}

void Engine::begin_fill(const ImagePtr& image) {
  const auto resident = store_.is_resident(image->manifest->digest());
  if (resident && *resident) return end_fill(image, {});
  look_at_all(*image);
  {
    MutexLock lock(image->mu);
    image->fill.cursor = 0;
    image->fill.failures = 0;
    image->fill.queued = false;
  }
  advance_fill(image);
}

// Takes the fill to its next step, if it is not at one already.
void Engine::advance_fill(const ImagePtr& image) {
  const std::uint32_t frames = image->manifest->objects().frame_count();
  bool pass_over = false;
  {
    MutexLock lock(image->mu);
    Fill& fill = image->fill;
    if (!fill.active || fill.queued || fill.resting || fill.held || fill.ending) return;
    fill.cursor = std::min(fill.cursor, std::exchange(fill.rewind, Fill::kNoFrame));
    pass_over = fill.cursor == frames;
    // After a failure one request at a time finds out whether the source is back.
    if (fill.in_flight > 0 && (pass_over || fill.failures > 0)) return;
    (pass_over ? fill.ending : fill.queued) = true;
  }
  if (pass_over) return submit(Urgency::kBackground, &Engine::end_pass, image);
  {
    MutexLock lock(fill_mu_);
    fill_line_.push_back(image);
  }
  pump_fill();
}

void Engine::pump_fill() {
  for (;;) {
    ImagePtr image;
    {
      MutexLock lock(fill_mu_);
      if (fill_slots_ <= 0 || fill_line_.empty()) return;
      --fill_slots_;
      image = std::move(fill_line_.front());
      fill_line_.pop_front();
    }
    submit(Urgency::kBackground, &Engine::step_fill, image);
  }
}

void Engine::free_fill_slot() {
  {
    MutexLock lock(fill_mu_);
    ++fill_slots_;
  }
  pump_fill();
}

// Has a slot, and keeps it for the request that it finds.
void Engine::step_fill(const ImagePtr& image) {
  bool active = false;
  {
    MutexLock lock(image->mu);
    active = image->fill.active;
  }
  const RequestPtr request = active && !is_held(image) ? next_request(image) : nullptr;
  bool careful = false;
  {
    MutexLock lock(image->mu);
    image->fill.queued = false;
    if (request != nullptr) ++image->fill.in_flight;
    careful = image->fill.failures > 0;
  }
  if (request == nullptr) {
    free_fill_slot();
  } else if (const Status room = careful ? can_keep(*request) : Status(); !room) {
    fill_failed(image, request->frames.front(), room.error());
    drop_for_fill(request);
  } else {
    ask_for_fill(request);
  }
  advance_fill(image);
}

// Whether the image's places are of no use to the fill now; then it goes on when it is woken.
bool Engine::is_held(const ImagePtr& image) {
  Sources::Time until;
  {
    MutexLock lock(image->mu);
    until = image->sources.held_until(Urgency::kBackground);
    image->fill.held = Sources::Clock::now() < until;
    if (!image->fill.held) return false;
  }
  wake_at(image, until);
  return true;
}

void Engine::ask_for_fill(const RequestPtr& request) {
  const ImagePtr& image = request->image;
  Sources::Step step;
  {
    MutexLock lock(image->mu);
    step = image->sources.next(request->attempt, request->range().blob, Urgency::kBackground,
                               Sources::Clock::now());
    if (step.move == Sources::Move::kWait || step.move == Sources::Move::kLocate) {
      image->fill.held = true;
      image->fill.rewind = std::min(image->fill.rewind, request->frames.front());
    }
  }
  if (step.move == Sources::Move::kAsk) return want(request, step.place);
  if (step.move == Sources::Move::kFail) return fail_for_fill(request, *step.error);
  drop_for_fill(request);
  if (step.move == Sources::Move::kLocate) return locate(image);
  wake_at(image, step.until);
  if (!step.error) return;
  log_fill_failing(*image, *step.error);
  pump(image);  // who waits has to learn until when
}

// A frame of which wrong bytes came. It does not wait for a slot.
void Engine::repair_for_fill(const RequestPtr& request) {
  {
    MutexLock lock(request->image->mu);
    ++request->image->fill.in_flight;
  }
  {
    MutexLock lock(fill_mu_);
    --fill_slots_;
  }
  ask_for_fill(request);
}

// Readers who joined ask for themselves.
void Engine::drop_for_fill(const RequestPtr& request) {
  const ImagePtr& image = request->image;
  release_frames(*request, InFlight::Why::kDone,
                 Error(Errc::kUnavailable, "the background fill waits"));
  {
    MutexLock lock(image->mu);
    image->sources.abandon(request->attempt);
    --image->fill.in_flight;
  }
  free_fill_slot();
}

void Engine::fail_for_fill(const RequestPtr& request, const Error& error) {
  if (!request->wrong.empty()) {
    // The rest goes on; what is damaged is asked for in the next pass, after ever longer pauses.
    fail(request, error);
    request->damaged = true;
    return fill_request_over(request);
  }
  fill_failed(request->image, request->frames.front(), error);
  drop_for_fill(request);
  submit(Urgency::kDemand, &Engine::wake, request->image);  // the places do answer
}

// The next range of frames to ask for, claimed; null when there is none in reach of this step.
RequestPtr Engine::next_request(const ImagePtr& image) {
  const cdc::Objects& objects = image->manifest->objects();
  const bool readers = Sources::Clock::now() - readers_seen_.load() < kReadersAbout;
  std::uint32_t frame = 0;
  PlanLimits limits;
  {
    MutexLock lock(image->mu);
    frame = image->fill.cursor;
    limits =
        limits_for_fill(image->sources.cost(), options_.plan, readers, options_.background_rate);
  }
  if (frame == 0) look_up_all(*image);
  auto request = std::make_shared<Request>();
  request->image = image;
  request->purpose = Purpose::kFill;
  std::vector<std::uint32_t>& chosen = request->frames;
  std::uint64_t copied = 0;
  for (std::uint32_t seen = 0; frame < objects.frame_count(); ++frame, ++seen) {
    if (chosen.empty() && (seen >= kStepFrames || copied >= kStepCopied)) break;
    if (!chosen.empty() &&
        !joins(objects, {chosen.front(), chosen.back()}, frame, limits.gap, limits.fill_run)) {
      break;
    }
    if (needs_fetch(image, frame, copied)) chosen.push_back(frame);
  }
  {
    MutexLock lock(image->mu);
    image->fill.cursor = frame;
    std::vector<std::uint32_t> mine;  // the others were asked for meanwhile
    for (const std::uint32_t f : chosen) {
      if (image->frames.insert(f).second) mine.push_back(f);
    }
    chosen.swap(mine);
  }
  if (chosen.empty()) return nullptr;
  request->take_whole(limits.gap);
  carry(*request);
  return request;
}

// Asked after a failure: on a full disk the same range would be fetched at every attempt.
Status Engine::can_keep(const Request& request) {
  std::uint64_t bytes = 0;
  for (const std::uint32_t frame : request.frames) {
    bytes += request.image->manifest->objects().frame(frame).raw_size;
  }
  const Status room = store_.try_room(bytes);
  return room ? room : room.error().with_context("the store cannot keep what is fetched");
}

void Engine::fill_request_over(const RequestPtr& request) {
  const ImagePtr& image = request->image;
  // While it still counts as in flight: nobody takes a step in ignorance of what came of it.
  if (request->not_kept) {
    fill_failed(image, request->frames.front(),
                Error(Errc::kNoSpace, "the store cannot keep what is fetched"));
  } else if (request->answered && !request->damaged) {
    fill_worked(image);
  }
  {
    MutexLock lock(image->mu);
    --image->fill.in_flight;
  }
  free_fill_slot();
  advance_fill(image);
}

// Goes back to the frame, after a pause.
void Engine::fill_failed(const ImagePtr& image, std::uint32_t frame, const Error& error) {
  bool rests = false;
  std::chrono::milliseconds pause{0};
  {
    MutexLock lock(image->mu);
    Fill& fill = image->fill;
    if (!image->attached) return;
    fill.rewind = std::min(fill.rewind, frame);
    rests = std::exchange(fill.resting, true);
    if (!rests) pause = image->fill_pauses.length(fill.failures++);
  }
  log_fill_failing(*image, error);
  if (!rests) go_on_after(image, pause);
}

void Engine::log_fill_failing(ImageState& image, const Error& error) {
  if (image.fill_failing.exchange(true)) return;
  log::warn("image {}: the background fill waits: {}", image.manifest->digest().to_string(),
            error.message());
}

void Engine::fill_worked(const ImagePtr& image) {
  {
    MutexLock lock(image->mu);
    image->fill.failures = 0;
  }
  if (image->fill_failing.exchange(false)) {
    log::info("image {}: the background fill goes on", image->manifest->digest().to_string());
  }
}

void Engine::rest_fill(const ImagePtr& image) {
  std::chrono::milliseconds pause{0};
  {
    MutexLock lock(image->mu);
    if (std::exchange(image->fill.resting, true)) return;
    pause = image->fill_pauses.length(image->fill.failures++);
  }
  go_on_after(image, pause);
}

void Engine::go_on_after(const ImagePtr& image, std::chrono::milliseconds pause) {
  work_.at(WorkQueue::Clock::now() + pause, [weak = weak_from_this(), image] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    {
      MutexLock lock(image->mu);
      image->fill.resting = false;
    }
    self->submit(Urgency::kBackground, &Engine::advance_fill, image);
  });
}

void Engine::end_pass(const ImagePtr& image) {
  const std::uint32_t count = image->manifest->objects().count();
  std::uint32_t object = 0;
  while (object < count && object_complete(image, object)) ++object;
  if (object == count) {
    return sync_->submit([self = shared_from_this(), image] { self->mark_resident(image); });
  }
  {
    MutexLock lock(image->mu);
    image->fill.ending = false;
    image->fill.cursor = 0;
  }
  rest_fill(image);
}

// On the thread that may wait for the disk to sync.
void Engine::mark_resident(const ImagePtr& image) {
  if (stopped_) return;
  const Status marked = store_.mark_resident(*image->manifest);
  if (marked) return end_fill(image, {});
  // An object may have turned out to be damaged meanwhile: all are looked at again.
  look_at_all(*image);
  {
    MutexLock lock(image->mu);
    image->fill.ending = false;
    image->fill.cursor = 0;
  }
  fill_failed(image, 0, marked.error());
}

void Engine::end_fill(const ImagePtr& image, const Status& status) {
  std::vector<std::function<void(Status)>> waiting;
  {
    MutexLock lock(image->mu);
    image->fill.active = false;
    image->fill.queued = false;
    image->fill.ending = false;
    waiting.swap(image->fill.done);
  }
  image->fill_failing = false;
  for (const auto& done : waiting) done(status);
}

}  // namespace imsy::cas
