// Wires: requests that know their place, in the line for the wire and on it. What Dispatch decides
// is done here.
#include <algorithm>
#include <utility>

#include "cas/arrival.h"
#include "cas/engine.h"

namespace imsy::cas {

// Takes its place in the line.
void Engine::want(const RequestPtr& request, const std::shared_ptr<BlobSource>& place) {
  Dispatch::Job job{.purpose = request->purpose,
                    .image = request->image.get(),
                    .host = place->host(),
                    .bytes = request->range().length,
                    .cost = place->cost()};
  request->left = request->frames.size();
  {
    MutexLock lock(wires_mu_);
    request->id = dispatch_.add(std::move(job));
    wires_.emplace(request->id, Wire{.request = request, .place = place});
  }
  move_wires();
}

void Engine::move_wires() {
  std::vector<std::pair<RequestPtr, std::shared_ptr<BlobSource>>> send;
  std::vector<BlobSource::Cancel> cut;
  Dispatch::Time wake_at;
  {
    MutexLock lock(wires_mu_);
    const auto moves = dispatch_.next(WorkQueue::Clock::now());
    for (const Dispatch::Id id : moves.send) {
      // The place is let go with the request's end, not with that of the line.
      if (const auto found = wires_.find(id); found != wires_.end()) {
        send.emplace_back(found->second.request, std::move(found->second.place));
      }
    }
    for (const Dispatch::Id id : moves.cut) {
      if (const auto found = wires_.find(id); found != wires_.end()) found->second.end(cut);
    }
    wake_at = moves.wake_at < wires_wake_at_ ? moves.wake_at : Dispatch::Time::max();
    if (wake_at != Dispatch::Time::max()) wires_wake_at_ = wake_at;
  }
  for (const auto& [request, place] : send) transmit(request, place);
  for (const auto& cancel : cut) cancel();
  if (wake_at == Dispatch::Time::max()) return;
  work_.at(wake_at, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    {
      MutexLock lock(self->wires_mu_);
      self->wires_wake_at_ = Dispatch::Time::max();
    }
    self->wires_changed();
  });
}

void Engine::wires_changed() {
  work_.submit(Urgency::kDemand, [self = shared_from_this()] { self->move_wires(); });
}

// Its turn has come, unless it is not wanted any more or has to wait for an outage to pass.
void Engine::transmit(const RequestPtr& request, const std::shared_ptr<BlobSource>& place) {
  if (request->purpose == Purpose::kDemand && !is_awaited(*request)) {
    forget_wire(*request);
    return drop(request);
  }
  bool may_ask = false;
  {
    MutexLock lock(request->image->mu);
    may_ask = request->image->sources.may_still_ask(request->attempt);
  }
  if (!may_ask) {
    forget_wire(*request);
    return ask(request);
  }
  const Dispatch::Id id = request->id;
  ++counters_.requests;
  ++request->image->counters.requests;
  request->place = place;
  request->place_name = place->name();
  auto cancel =
      place->read(request->range(), std::make_shared<Arrival>(shared_from_this(), request, id));
  {
    MutexLock lock(wires_mu_);
    const auto found = wires_.find(id);
    if (found == wires_.end()) return;  // it has ended meanwhile
    if (!found->second.unwanted) {
      found->second.cancel = std::move(cancel);
      return;
    }
  }
  cancel();
}

// Readers have joined requests for these chunks, of their image or of another. What the background
// has not asked for yet, or would bring too late, readers ask for themselves.
void Engine::hurry(const ImageState& image, const std::vector<std::uint32_t>& chunks) {
  WantKeys keys;
  for (const std::uint32_t chunk : chunks) keys.insert(image.key(chunk));
  std::vector<Wire> dropped;  // let go without the lock
  std::vector<BlobSource::Cancel> cut;
  {
    MutexLock lock(wires_mu_);
    for (auto& [id, wire] : wires_) {
      const Request& request = *wire.request;
      const bool background = request.purpose != Purpose::kDemand;
      if (!background || wire.unwanted || !comes_late(id, request, keys)) continue;
      if (wire.place != nullptr) {
        dropped.push_back(std::move(wire));
      } else {
        wire.end(cut);
      }
    }
    for (const Wire& wire : dropped) wires_.erase(wire.request->id);
  }
  for (const auto& cancel : cut) cancel();
  for (const Wire& wire : dropped) on_break(wire.request, wire.request->frames);
}

bool Engine::comes_late(Dispatch::Id id, const Request& request, const WantKeys& keys) {
  const cdc::Objects& objects = request.image->manifest->objects();
  const std::uint64_t begin = request.range().offset;
  for (const std::uint32_t index : request.frames) {
    const auto chunks = objects.chunks_in_frame(index);
    const bool wanted = std::any_of(chunks.begin(), chunks.end(), [&](std::uint32_t chunk) {
      return keys.contains(request.image->key(chunk));
    });
    if (!wanted) continue;
    const cdc::Frame& frame = objects.frame(index);
    if (dispatch_.outlasts_reader(id, frame.stored_offset + frame.stored_size - begin)) return true;
  }
  return false;
}

// Nothing of it is on the wire or in memory any more.
void Engine::forget_wire(const Request& request) {
  {
    MutexLock lock(wires_mu_);
    dispatch_.forget(request.id);
    wires_.erase(request.id);
  }
  wires_changed();
}

// Ends what is on the wire, of one image or of all.
void Engine::cancel_wires(const ImageState* image) {
  std::vector<BlobSource::Cancel> cancels;
  {
    MutexLock lock(wires_mu_);
    for (auto& [id, wire] : wires_) {
      if (image == nullptr || wire.request->image.get() == image) wire.end(cancels);
    }
  }
  for (const auto& cancel : cancels) cancel();
}

}  // namespace imsy::cas
