// Requests: from wanted chunks to frames that arrived.
#include <algorithm>
#include <utility>

#include "cas/engine.h"
#include "cdc/frame.h"
#include "common/log.h"

namespace imsy::cas {
namespace {

bool may_go_away(const Error& error) {
  return error.code() == Errc::kUnavailable || error.code() == Errc::kTimeout;
}

BlobRange range_of(const Request& request) {
  const cdc::Objects& objects = request.image->manifest->objects();
  const cdc::Frame& first = objects.frame(request.frames.front());
  const cdc::Frame& last = objects.frame(request.frames.back());
  const auto& layer = request.image->anchor.data_layers[first.layer];
  return {.blob = layer.blob,
          .blob_size = layer.size,
          .offset = first.stored_offset,
          .length = last.stored_offset + last.stored_size - first.stored_offset};
}

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

// What is wrong, and where, in one line.
std::string describe(const ImageState& image, std::uint32_t frame_index, std::uint32_t chunk_index,
                     const std::string& why) {
  const cdc::Objects& objects = image.manifest->objects();
  const cdc::Frame& frame = objects.frame(frame_index);
  const std::uint32_t object = objects.object_of_chunk(chunk_index);
  return "image " + image.manifest->digest().to_string() + ": " +
         file_of(image.manifest->tree(), object) + " (object " + objects.id(object).hex() +
         ") cannot be read at offset " + std::to_string(objects.chunk(chunk_index).object_offset) +
         ": blob " + image.anchor.data_layers[frame.layer].blob.to_string() +
         " is damaged in bytes " + std::to_string(frame.stored_offset) + " to " +
         std::to_string(frame.stored_offset + frame.stored_size - 1) + ": " + why;
}

}  // namespace

std::chrono::milliseconds Engine::delay(unsigned failures,
                                        std::chrono::milliseconds longest) const {
  const unsigned doublings = std::min(failures, 16u);
  return std::min(longest, options_.retry_first * (1u << doublings));
}

// --- asking

// Asks for the frames of the chunks, each of which `image` carries, unless they are on their way.
void Engine::request_chunks(const ImagePtr& image, const std::vector<std::uint32_t>& chunks) {
  const cdc::Objects& objects = image->manifest->objects();
  std::vector<std::uint32_t> frames;
  for (const std::uint32_t chunk : chunks) frames.push_back(objects.frame_of_chunk(chunk));
  std::sort(frames.begin(), frames.end());
  frames.erase(std::unique(frames.begin(), frames.end()), frames.end());

  std::vector<RequestPtr> requests;
  bool attached = false;
  bool reachable = false;
  {
    MutexLock lock(image->mu);
    attached = image->attached;
    reachable = attached && image->source != nullptr;
    if (reachable) {
      std::vector<std::uint32_t> wanted;  // nobody has asked for
      for (const std::uint32_t f : frames) {
        if (!image->frames.contains(f)) wanted.push_back(f);
      }
      for (const FrameRun& run :
           plan_runs(objects, wanted, options_.gap_max, options_.demand_span)) {
        auto request = std::make_shared<Request>();
        request->image = image;
        // Frames in the gaps come along: they are paid for.
        for (std::uint32_t f = run.first; f <= run.last; ++f) {
          if (image->frames.insert(f).second) request->frames.push_back(f);
        }
        image->waiting.push_back(request);
        requests.push_back(std::move(request));
      }
    }
  }
  if (!reachable) {
    const Error error = attached
                            ? Error(Errc::kUnavailable, "the image's registry is not known yet")
                            : Error(Errc::kCancelled, "the image was detached");
    for (const std::uint32_t chunk : chunks) {
      settle(in_flight_.give_up(image->key(chunk), image.get(), InFlight::Why::kFailed), error);
    }
    return;
  }
  for (const RequestPtr& request : requests) carry(*request);
  pump(image);
}

void Engine::carry(const Request& request) {
  const cdc::Objects& objects = request.image->manifest->objects();
  for (const std::uint32_t frame : request.frames) {
    for (const std::uint32_t chunk : objects.chunks_in_frame(frame)) {
      in_flight_.carry(request.image->key(chunk), request.image.get());
    }
  }
}

void Engine::enqueue(const RequestPtr& request) {
  bool attached = false;
  {
    MutexLock lock(request->image->mu);
    attached = request->image->attached;
    if (attached) request->image->waiting.push_back(request);
  }
  if (attached) return pump(request->image);
  for (const std::uint32_t frame : request->frames) {
    release_frame(request->image, frame, InFlight::Why::kFailed,
                  Error(Errc::kCancelled, "the image was detached"));
  }
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

// Sends on-demand requests while the image has slots. What nobody waits for any more is dropped.
void Engine::pump(const ImagePtr& image) {
  for (;;) {
    RequestPtr request;
    std::shared_ptr<BlobSource> source;
    {
      MutexLock lock(image->mu);
      if (image->waiting.empty() || image->demand_in_flight >= options_.demand_requests) return;
      request = std::move(image->waiting.front());
      image->waiting.pop_front();
      ++image->demand_in_flight;
      source = image->source;
    }
    const bool awaited = is_awaited(*request);
    if (awaited && source != nullptr) {
      send(request, source);
      continue;
    }
    const Error error(Errc::kUnavailable, "the image's registry is not known yet");
    for (const std::uint32_t frame : request->frames) {
      release_frame(image, frame, awaited ? InFlight::Why::kFailed : InFlight::Why::kDone, error);
    }
    leave_slot(image);
  }
}

void Engine::leave_slot(const ImagePtr& image) {
  MutexLock lock(image->mu);
  --image->demand_in_flight;
}

void Engine::send(const RequestPtr& request, const std::shared_ptr<BlobSource>& source) {
  ++counters_.requests;
  ++request->image->counters.requests;
  source->read(range_of(*request), [self = shared_from_this(), request](Result<Bytes> bytes) {
    self->arrived(request, std::move(bytes));
  });
}

// --- answers

// On the source's thread, which must not wait: only hands over.
void Engine::arrived(const RequestPtr& request, Result<Bytes> bytes) {
  if (stopped_) return;
  const auto self = shared_from_this();
  if (!bytes) {
    work_.submit(Urgency::kDemand,
                 [self, request, error = bytes.error()] { self->on_failure(request, error); });
    return;
  }
  const auto shared = std::make_shared<const Bytes>(std::move(*bytes));
  work_.submit(Urgency::kDemand, [self, request, shared] { self->split(request, shared); });
}

// One task for each frame, so that a reader's frame does not wait for a long background range.
void Engine::split(const RequestPtr& request, const SharedBytes& bytes) {
  const ImagePtr& image = request->image;
  if (bytes->size() != range_of(*request).length) {
    return on_failure(request,
                      Error(Errc::kInvalid, "the source gave " + std::to_string(bytes->size()) +
                                                " bytes instead of those asked for"));
  }
  counters_.bytes_fetched += bytes->size();
  image->counters.bytes_fetched += bytes->size();
  if (image->failing.exchange(false)) {
    log::info("image {}: its registry answers again", image->manifest->digest().to_string());
  }
  request->left = request->frames.size();
  for (const std::uint32_t frame : request->frames) {
    const bool urgent = request->urgency == Urgency::kDemand || is_awaited(*image, frame);
    work_.submit(urgent ? Urgency::kDemand : Urgency::kBackground,
                 [self = shared_from_this(), request, frame, bytes] {
                   self->take_frame(request, frame, bytes);
                 });
  }
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

void Engine::take_frame(const RequestPtr& request, std::uint32_t index, const SharedBytes& bytes) {
  thread_local cdc::FrameDecoder decoder;
  const ImagePtr& image = request->image;
  const cdc::Objects& objects = image->manifest->objects();
  const auto chunks = lacking(*image, index);
  if (!chunks.empty()) {
    const cdc::Frame& frame = objects.frame(index);
    const std::uint64_t start = objects.frame(request->frames.front()).stored_offset;
    const auto raw = decoder.decode(
        ByteSpan(*bytes).subspan(frame.stored_offset - start, frame.stored_size), frame.raw_size);
    std::vector<std::uint32_t> wrong;
    for (const std::uint32_t chunk : chunks) {
      const Fate fate = raw ? deliver(image, chunk,
                                      ByteSpan(*raw).subspan(objects.offset_in_frame(chunk),
                                                             objects.chunk(chunk).size),
                                      Got::kFetched)
                            : Fate::kWrong;
      if (fate == Fate::kWrong) wrong.push_back(chunk);
      if (fate == Fate::kNotKept) request->not_kept = true;
    }
    if (!wrong.empty()) {
      request->damaged = true;
      counters_.chunks_corrupt += wrong.size();
      image->counters.chunks_corrupt += wrong.size();
      return on_wrong_bytes(request, index, wrong, raw ? "wrong digest" : raw.error().message());
    }
  }
  release_frame(image, index, InFlight::Why::kDone,
                Error(Errc::kUnavailable, "the chunk did not come"));
  frame_over(request);
}

// Once more, alone, if somebody waits; then the wrong chunks fail, and no others.
void Engine::on_wrong_bytes(const RequestPtr& request, std::uint32_t frame,
                            const std::vector<std::uint32_t>& chunks, const std::string& why) {
  const ImagePtr& image = request->image;
  if (request->refetches == 0 && is_awaited(*image, frame)) {
    auto again = std::make_shared<Request>();
    again->image = image;
    again->frames = {frame};
    again->refetches = 1;
    enqueue(again);
    return frame_over(request);
  }
  const Error error(Errc::kCorrupt, describe(*image, frame, chunks.front(), why));
  log::error("{}", error.message());
  if (request->refetches > 0) {
    for (const std::uint32_t chunk : chunks) {
      settle(in_flight_.give_up(image->key(chunk), image.get(), InFlight::Why::kFailed), error);
    }
  }
  release_frame(image, frame, InFlight::Why::kDone, error);
  frame_over(request);
}

void Engine::on_failure(const RequestPtr& request, const Error& error) {
  const ImagePtr& image = request->image;
  if (request->urgency == Urgency::kBackground) {
    // Readers who joined ask for themselves.
    for (const std::uint32_t frame : request->frames) {
      release_frame(image, frame, InFlight::Why::kDone, error);
    }
    return fill_request_over(request, error);
  }
  leave_slot(image);
  if (may_go_away(error)) {
    retry_later(request, error);
  } else {
    for (const std::uint32_t frame : request->frames) {
      release_frame(image, frame, InFlight::Why::kFailed, error);
    }
  }
  pump(image);
}

// The frames stay claimed. Readers wait until their deadlines; those of other images who joined try
// their own registry meanwhile.
void Engine::retry_later(const RequestPtr& request, const Error& error) {
  const ImagePtr& image = request->image;
  if (!image->failing.exchange(true)) {
    log::warn("image {}: its registry fails, trying again: {}",
              image->manifest->digest().to_string(), error.message());
  }
  for (const std::uint32_t frame : request->frames) {
    for (const std::uint32_t chunk : image->manifest->objects().chunks_in_frame(frame)) {
      settle(in_flight_.give_up(image->key(chunk), image.get(), InFlight::Why::kTrying), error);
    }
  }
  const auto pause = delay(request->failures++, options_.retry_longest);
  work_.at(WorkQueue::Clock::now() + pause, [weak = weak_from_this(), request] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    self->work_.submit(Urgency::kDemand, [self, request] { self->enqueue(request); });
  });
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

void Engine::frame_over(const RequestPtr& request) {
  if (--request->left > 0) return;
  if (request->urgency == Urgency::kBackground) return fill_request_over(request, {});
  leave_slot(request->image);
  pump(request->image);
}

}  // namespace imsy::cas
