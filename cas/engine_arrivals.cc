// Arrivals: from the bytes that a place sends to chunks in the store, and to other places where
// that fails.
#include <algorithm>
#include <utility>

#include "cas/arrival.h"
#include "cas/engine.h"
#include "cdc/frame.h"
#include "common/log.h"

namespace imsy::cas {

// --- on the place's thread, which must not wait

void Arrival::begin(const std::string& trust_domain) {
  request_->trust_domain = trust_domain;
}

void Arrival::take(ByteSpan piece) {
  engine_->bytes_came(id_, *request_, piece.size());
  stream_.take(piece, [this](std::uint32_t frame, Bytes stored) {
    engine_->frame_came(request_, frame, std::move(stored));
  });
}

void Arrival::end(const Status& status) {
  engine_->bytes_were_useless(stream_.between(), stream_.unfinished());
  const auto missing = stream_.missing();
  engine_->wire_ended(id_, request_, {missing.begin(), missing.end()}, status);
}

void Engine::bytes_came(Dispatch::Id id, const Request& request, std::uint64_t bytes) {
  counters_.bytes_fetched += bytes;
  request.image->counters.bytes_fetched += bytes;
  MutexLock lock(wires_mu_);
  dispatch_.came(id, bytes);
}

void Engine::bytes_were_useless(std::uint64_t between, std::uint64_t unfinished) {
  counters_.bytes_gap += between;
  counters_.bytes_broken += unfinished;
}

// One task for each frame, as it comes, so that nobody waits for the rest of a long range.
void Engine::frame_came(const RequestPtr& request, std::uint32_t frame, Bytes stored) {
  const bool urgent = request->purpose == Purpose::kDemand || is_awaited(*request->image, frame);
  work_.submit(urgent ? Urgency::kDemand : Urgency::kBackground,
               [self = shared_from_this(), request, frame,
                bytes = std::make_shared<const Bytes>(std::move(stored))] {
                 self->take_frame(request, frame, *bytes);
               });
}

void Engine::wire_ended(Dispatch::Id id, const RequestPtr& request,
                        std::vector<std::uint32_t> missing, const Status& status) {
  BlobSource::Cancel ended;  // let go without the lock
  bool unwanted = false;
  {
    MutexLock lock(wires_mu_);
    dispatch_.ended(id);
    const auto found = wires_.find(id);
    if (found != wires_.end()) {
      unwanted = found->second.unwanted;
      ended = std::move(found->second.cancel);
      wires_.erase(found);
    }
  }
  wires_changed();
  if (missing.empty()) return;
  const Error error =
      status
          ? Error(Errc::kInvalid, request->place_name + " gave fewer bytes than it was asked for")
          : status.error();
  work_.submit(Urgency::kDemand,
               [self = shared_from_this(), request, missing = std::move(missing), error, unwanted] {
                 const bool nothing = missing.size() == request->frames.size();
                 if (nothing && !unwanted) return self->on_failure(request, error);
                 self->on_break(request, missing);
               });
}

// --- on the workers

// Nothing has come. The next place is asked, if there is one.
void Engine::on_failure(const RequestPtr& request, const Error& error) {
  forget_wire(*request);
  {
    MutexLock lock(request->image->mu);
    request->image->sources.failed(request->attempt, request->range().blob, error,
                                   Sources::Clock::now());
  }
  ask(request);
}

// A part has not come, because the transfer broke off or was cut for somebody more urgent. Readers
// ask for it at once, and again anywhere: where a part has come, the place is good for the rest.
void Engine::on_break(const RequestPtr& request, const std::vector<std::uint32_t>& missing) {
  const ImagePtr& image = request->image;
  if (request->purpose == Purpose::kDemand) {
    auto rest = std::make_shared<Request>();
    rest->image = image;
    rest->frames = missing;
    enqueue(rest);
  } else {
    bool others_wait = false;
    {
      MutexLock lock(image->mu);
      others_wait = image->sources.abandon(request->attempt);
      if (request->purpose == Purpose::kFill) {
        image->fill.rewind = std::min(image->fill.rewind, missing.front());
      }
    }
    if (others_wait) submit(Urgency::kDemand, &Engine::wake, image);
    for (const std::uint32_t frame : missing) {
      release_frame(image, frame, InFlight::Why::kDone,
                    Error(Errc::kUnavailable, "the chunk did not come"));
    }
  }
  frames_over(request, missing.size());
}

// The place has given a frame of what it was asked for.
void Engine::note_answer(const RequestPtr& request) {
  if (request->answered.exchange(true)) return;
  const ImagePtr& image = request->image;
  bool outage_over = false;
  {
    MutexLock lock(image->mu);
    outage_over = image->sources.succeeded(request->attempt);
  }
  if (image->failing.exchange(false)) {
    log::info("image {}: its registry answers again", image->manifest->digest().to_string());
  }
  if (outage_over) wake(image);
}

// The chunks of the frame that somebody wants or whose objects lack them.
std::vector<std::uint32_t> Engine::lacking(const ImageState& image, std::uint32_t frame) {
  const cdc::Objects& objects = image.manifest->objects();
  std::vector<std::uint32_t> chunks;
  for (const std::uint32_t chunk : objects.chunks_in_frame(frame)) {
    const std::uint32_t object = objects.object_of_chunk(chunk);
    bool needed = in_flight_.is_wanted(image.key(chunk));
    if (!needed) {
      const auto opened = open_object(image, object);
      needed = !opened || !(*opened)->has_chunk(chunk - objects.first_chunk(object));
    }
    if (needed) chunks.push_back(chunk);
  }
  return chunks;
}

void Engine::take_frame(const RequestPtr& request, std::uint32_t index, ByteSpan stored) {
  thread_local cdc::FrameDecoder decoder;
  note_answer(request);
  const ImagePtr& image = request->image;
  const cdc::Objects& objects = image->manifest->objects();
  const auto chunks = lacking(*image, index);
  if (chunks.empty()) {
    counters_.bytes_gap += stored.size();
  } else {
    const auto raw = decoder.decode(stored, objects.frame(index).raw_size);
    std::vector<std::uint32_t> wrong;
    for (const std::uint32_t chunk : chunks) {
      const Fate fate = raw ? deliver(image, chunk,
                                      ByteSpan(*raw).subspan(objects.offset_in_frame(chunk),
                                                             objects.chunk(chunk).size),
                                      Got::kFetched, request->trust_domain)
                            : Fate::kWrong;
      if (fate == Fate::kWrong) wrong.push_back(chunk);
      if (fate == Fate::kNotKept) request->not_kept = true;
    }
    if (!wrong.empty()) {
      request->damaged = true;
      counters_.bytes_wrong += stored.size();
      counters_.chunks_corrupt += wrong.size();
      image->counters.chunks_corrupt += wrong.size();
      return on_wrong_bytes(request, index, wrong, raw ? "wrong digest" : raw.error().message());
    }
  }
  release_frame(image, index, InFlight::Why::kDone,
                Error(Errc::kUnavailable, "the chunk did not come"));
  frames_over(request, 1);
}

// The frame is asked for once more, alone, at the next place.
void Engine::on_wrong_bytes(const RequestPtr& request, std::uint32_t frame,
                            const std::vector<std::uint32_t>& chunks, const std::string& why) {
  const ImagePtr& image = request->image;
  const Digest blob = request->range().blob;
  if (const auto place = request->place.lock()) place->distrust(blob);
  auto again = std::make_shared<Request>();
  again->image = image;
  again->frames = {frame};
  again->purpose = is_awaited(*image, frame) ? Purpose::kDemand : Purpose::kFill;
  again->wrong = chunks;
  again->why = why;
  {
    MutexLock lock(image->mu);
    again->attempt = request->attempt;
    image->sources.gave_wrong(again->attempt, request->place_name, blob, Sources::Clock::now());
  }
  if (again->purpose == Purpose::kDemand) {
    enqueue(again);
  } else {
    repair_for_fill(again);
  }
  frames_over(request, 1);
}

void Engine::release_frames(const Request& request, InFlight::Why why, const Error& error) {
  for (const std::uint32_t frame : request.frames) {
    release_frame(request.image, frame, why, error);
  }
}

void Engine::release_frame(const ImagePtr& image, std::uint32_t frame, InFlight::Why why,
                           const Error& error) {
  {
    MutexLock lock(image->mu);
    image->frames.erase(frame);
  }
  for (const std::uint32_t chunk : image->manifest->objects().chunks_in_frame(frame)) {
    settle(in_flight_.give_up(image->key(chunk), image.get(), why), error);
  }
}

// So many of its frames are processed, or are another request's now.
void Engine::frames_over(const RequestPtr& request, std::size_t count) {
  if ((request->left -= count) > 0) return;
  forget_wire(*request);
  if (request->purpose == Purpose::kFill) fill_request_over(request);
}

}  // namespace imsy::cas
