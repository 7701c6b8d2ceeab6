// Requests: from wanted chunks to what is on the wire.
#include <algorithm>
#include <utility>

#include "cas/engine.h"
#include "common/log.h"

namespace imsy::cas {
namespace {

// Some path of the object, for people.
std::string file_of(const cdc::Tree& tree, std::uint32_t object) {
  for (std::uint32_t d = 0; d < tree.inode_count(); ++d) {
    const cdc::Inode& directory = tree.inode(d);
    if (directory.type != cdc::NodeType::kDirectory) continue;
    for (const cdc::Entry& entry : tree.entries_of(directory)) {
      const cdc::Inode& inode = tree.inode(entry.inode);
      if (inode.type == cdc::NodeType::kRegular && inode.value == object) {
        return tree.path_of(d) + "/" + std::string(tree.name(entry));
      }
    }
  }
  return "(no file)";
}

// What is wrong, where, and from whom, in one line.
std::string describe(const Request& request) {
  const ImageState& image = *request.image;
  const cdc::Objects& objects = image.manifest->objects();
  const cdc::Frame& frame = objects.frame(request.frames.front());
  const std::uint32_t chunk = request.wrong.front();
  const std::uint32_t object = objects.object_of_chunk(chunk);
  std::string places;
  for (const std::string& place : request.attempt.wrong) {
    places += (places.empty() ? "" : ", ") + place;
  }
  return "image " + image.manifest->digest().to_string() + ": " +
         file_of(image.manifest->tree(), object) + " (object " + objects.id(object).hex() +
         ") cannot be read at offset " + std::to_string(objects.chunk(chunk).object_offset) +
         ": blob " + image.anchor.data_layers[frame.layer].blob.to_string() +
         " is damaged in bytes " + std::to_string(frame.stored_offset) + " to " +
         std::to_string(frame.stored_offset + frame.stored_size - 1) + " at " + places + ": " +
         request.why;
}

Error image_gone() {
  return Error(Errc::kCancelled, "the image was detached");
}

}  // namespace

BlobRange Request::range() const {
  const cdc::Objects& objects = image->manifest->objects();
  const cdc::Frame& first = objects.frame(frames.front());
  const cdc::Frame& last = objects.frame(frames.back());
  const auto& layer = image->anchor.data_layers[first.layer];
  BlobRange range{.blob = layer.blob, .blob_size = layer.size, .purpose = purpose};
  if (!whole) range.offset = first.stored_offset;
  range.length = whole ? layer.size : last.stored_offset + last.stored_size - range.offset;
  return range;
}

void Request::take_whole(std::uint64_t gap) {
  const BlobRange part = range();
  whole = takes_whole(part.offset, part.offset + part.length, part.blob_size, gap);
}

// --- asking

// Asks for the frames of the chunks, each of which `image` carries, unless they are on their way.
void Engine::request_chunks(const ImagePtr& image, const std::vector<std::uint32_t>& chunks) {
  const cdc::Objects& objects = image->manifest->objects();
  std::vector<std::uint32_t> frames;
  for (const std::uint32_t chunk : chunks) frames.push_back(objects.frame_of_chunk(chunk));
  readers_seen_ = Sources::Clock::now();
  std::vector<RequestPtr> requests;
  bool attached = false;
  {
    MutexLock lock(image->mu);
    attached = image->attached;
    if (attached) {
      const PlanLimits limits = limits_for_demand(image->sources.cost(), options_.plan);
      requests = claim(image, std::move(frames), limits.gap, limits.demand_run, Purpose::kDemand);
      image->waiting.insert(image->waiting.end(), requests.begin(), requests.end());
    }
  }
  if (!attached) {
    for (const std::uint32_t chunk : chunks) {
      settle(in_flight_.give_up(image->key(chunk), image.get(), InFlight::Why::kFailed),
             image_gone());
    }
    return;
  }
  for (const RequestPtr& request : requests) carry(*request);
  pump(image);
}

// Requests for those frames that nobody has asked for, and for what lies in the gaps: it is paid
// for.
std::vector<RequestPtr> Engine::claim(const ImagePtr& image, std::vector<std::uint32_t> frames,
                                      std::uint64_t gap, std::uint64_t span, Purpose purpose) {
  const cdc::Objects& objects = image->manifest->objects();
  std::sort(frames.begin(), frames.end());
  frames.erase(std::unique(frames.begin(), frames.end()), frames.end());
  std::vector<std::uint32_t> wanted;  // nobody has asked for
  for (const std::uint32_t frame : frames) {
    if (!image->frames.contains(frame)) wanted.push_back(frame);
  }
  std::vector<RequestPtr> requests;
  for (const FrameRun& run : plan_runs(objects, wanted, gap, span)) {
    auto request = std::make_shared<Request>();
    request->image = image;
    request->purpose = purpose;
    for (std::uint32_t f = run.first; f <= run.last; ++f) {
      if (image->frames.insert(f).second) request->frames.push_back(f);
    }
    request->take_whole(gap);
    requests.push_back(std::move(request));
  }
  return requests;
}

void Engine::carry(const Request& request) {
  const cdc::Objects& objects = request.image->manifest->objects();
  for (const std::uint32_t frame : request.frames) {
    for (const std::uint32_t chunk : objects.chunks_in_frame(frame)) {
      in_flight_.carry(request.image->key(chunk), request.image.get());
    }
  }
}

// Before those that have not been sent yet.
void Engine::enqueue(const RequestPtr& request) {
  bool attached = false;
  {
    MutexLock lock(request->image->mu);
    attached = request->image->attached;
    if (attached) request->image->waiting.push_front(request);
  }
  if (attached) return pump(request->image);
  release_frames(*request, InFlight::Why::kFailed, image_gone());
}

bool Engine::is_awaited(const ImageState& image, std::uint32_t frame) {
  const auto chunks = image.manifest->objects().chunks_in_frame(frame);
  return std::any_of(chunks.begin(), chunks.end(),
                     [&](std::uint32_t chunk) { return in_flight_.is_awaited(image.key(chunk)); });
}

bool Engine::is_awaited(const Request& request) {
  return std::any_of(request.frames.begin(), request.frames.end(),
                     [&](std::uint32_t frame) { return is_awaited(*request.image, frame); });
}

// The first request that need not wait leaves the line. Or the image is to be located.
Engine::Turn Engine::next_turn(const ImagePtr& image) {
  Turn turn;
  const auto now = Sources::Clock::now();
  Sources::Time until = Sources::Time::max();
  {
    MutexLock lock(image->mu);
    auto& line = image->waiting;
    for (auto at = line.begin(); at != line.end(); ++at) {
      const RequestPtr request = *at;
      auto step =
          image->sources.next(request->attempt, request->range().blob, Urgency::kDemand, now);
      if (step.move == Sources::Move::kAsk || step.move == Sources::Move::kFail) {
        request->waits = false;
        turn.request = request;
        turn.step = std::move(step);
        line.erase(at);
        return turn;
      }
      if (!std::exchange(request->waits, true)) turn.waiting.push_back(request);
      if (step.error) turn.outage = std::move(step.error);
      until = std::min(until, step.until);
      turn.step.move = step.move;
      if (step.move == Sources::Move::kLocate) break;
    }
  }
  wake_at(image, until);
  return turn;
}

// Finds places for on-demand requests. What nobody waits for any more is dropped.
void Engine::pump(const ImagePtr& image) {
  for (;;) {
    const Turn turn = next_turn(image);
    for (const RequestPtr& request : turn.waiting) let_others_try(*request);
    if (turn.outage) on_outage(image, *turn.outage);
    if (turn.request == nullptr) {
      if (turn.step.move != Sources::Move::kLocate) return;
      locate(image);
    } else if (turn.step.move == Sources::Move::kFail) {
      fail(turn.request, *turn.step.error);
    } else if (is_awaited(*turn.request)) {
      want(turn.request, turn.step.place);
    } else {
      drop(turn.request);
    }
  }
}

// Readers wait until their deadlines; those of other images who joined try their own places.
void Engine::let_others_try(const Request& request) {
  for (const std::uint32_t frame : request.frames) {
    for (const std::uint32_t chunk : request.image->manifest->objects().chunks_in_frame(frame)) {
      settle(in_flight_.give_up(request.image->key(chunk), request.image.get(),
                                InFlight::Why::kTrying),
             image_gone());
    }
  }
}

void Engine::on_outage(const ImagePtr& image, const Error& error) {
  if (!image->failing.exchange(true)) {
    log::warn("image {}: its registry fails, trying again: {}",
              image->manifest->digest().to_string(), error.message());
  }
  // It has to learn until when.
  {
    MutexLock lock(image->mu);
    if (!std::exchange(image->fill.held, false)) return;
  }
  submit(Urgency::kBackground, &Engine::advance_fill, image);
}

// Things may have changed for all requests that wait.
void Engine::wake(const ImagePtr& image) {
  {
    MutexLock lock(image->mu);
    if (image->wake_at <= Sources::Clock::now()) image->wake_at = Sources::Time::max();
    for (const RequestPtr& request : image->waiting) request->waits = false;
    image->fill.held = false;
  }
  pump(image);
  submit(Urgency::kBackground, &Engine::advance_fill, image);
}

void Engine::wake_at(const ImagePtr& image, Sources::Time when) {
  {
    MutexLock lock(image->mu);
    if (image->wake_at <= when) return;
    image->wake_at = when;
  }
  work_.at(when, [weak = weak_from_this(), image] {
    if (const auto self = weak.lock()) self->submit(Urgency::kDemand, &Engine::wake, image);
  });
}

void Engine::locate(const ImagePtr& image) {
  image->locate([weak = weak_from_this(), image](Result<Places> places) {
    const auto self = weak.lock();
    if (self == nullptr) return;
    self->work_.submit(Urgency::kDemand, [self, image, places = std::move(places)] {
      {
        MutexLock lock(image->mu);
        image->sources.located(places, Sources::Clock::now());
      }
      self->wake(image);
    });
  });
}

void Engine::drop(const RequestPtr& request) {
  const ImagePtr& image = request->image;
  bool others_wait = false;
  {
    MutexLock lock(image->mu);
    others_wait = image->sources.abandon(request->attempt);
  }
  release_frames(*request, InFlight::Why::kDone, image_gone());
  if (others_wait) submit(Urgency::kDemand, &Engine::wake, image);
}

// No place gives what was asked for.
void Engine::fail(const RequestPtr& request, const Error& error) {
  const ImagePtr& image = request->image;
  if (request->wrong.empty()) {
    release_frames(*request, InFlight::Why::kFailed, error);
  } else {
    // The wrong chunks fail, and no others of the frame.
    const Error corrupt(Errc::kCorrupt, describe(*request));
    log::error("{}", corrupt.message());
    for (const std::uint32_t chunk : request->wrong) {
      settle(in_flight_.give_up(image->key(chunk), image.get(), InFlight::Why::kFailed), corrupt);
    }
    release_frames(*request, InFlight::Why::kDone, corrupt);
  }
  submit(Urgency::kDemand, &Engine::wake, image);  // the places do answer
}

// Asks the place that Sources says, or does what else it says.
void Engine::ask(const RequestPtr& request) {
  switch (request->purpose) {
    case Purpose::kDemand: return enqueue(request);
    case Purpose::kStartup: return ask_for_startup(request);
    case Purpose::kFill: return ask_for_fill(request);
  }
}

// --- the start-up profile

void Engine::prefetch(const ImagePtr& image, std::vector<std::uint32_t> chunks) {
  work_.submit(Urgency::kBackground,
               [self = shared_from_this(), image, chunks = std::move(chunks)] {
                 self->plan_prefetch(image, chunks);
               });
}

// What other objects have is copied when it is read.
void Engine::plan_prefetch(const ImagePtr& image, std::vector<std::uint32_t> chunks) {
  const cdc::Objects& objects = image->manifest->objects();
  std::erase_if(chunks, [&](std::uint32_t chunk) {
    if (chunk >= objects.total_chunks()) return true;
    const std::uint32_t object = objects.object_of_chunk(chunk);
    const auto opened = open_object(*image, object);
    return opened && (*opened)->has_chunk(chunk - objects.first_chunk(object));
  });
  const std::vector<bool> likely = look_up(*image, chunks);
  std::vector<std::uint32_t> frames;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    if (!likely[i]) frames.push_back(objects.frame_of_chunk(chunks[i]));
  }
  std::vector<RequestPtr> requests;
  {
    MutexLock lock(image->mu);
    if (!image->attached) return;
    PlanLimits limits =
        limits_for_fill(image->sources.cost(), options_.plan, true, options_.background_rate);
    requests = claim(image, std::move(frames), limits.gap, limits.fill_run, Purpose::kStartup);
  }
  for (const RequestPtr& request : requests) {
    carry(*request);
    ask_for_startup(request);
  }
}

void Engine::ask_for_startup(const RequestPtr& request) {
  const ImagePtr& image = request->image;
  Sources::Step step;
  {
    MutexLock lock(image->mu);
    step = image->sources.next(request->attempt, request->range().blob, Urgency::kBackground,
                               Sources::Clock::now());
  }
  if (step.move == Sources::Move::kAsk) return want(request, step.place);
  drop(request);
  if (step.move == Sources::Move::kLocate) locate(image);
}

}  // namespace imsy::cas
