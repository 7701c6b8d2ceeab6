// Look-ups: what a fill need not fetch, because the image or other objects of the store have it.
#include <algorithm>
#include <numeric>
#include <span>

#include "cas/engine.h"

namespace imsy::cas {
namespace {

constexpr std::size_t kLookUp = 4'096;  // chunks at a time, so that readers look up in between

}  // namespace

// Whether the frame must be asked for. Copies what other objects have.
bool Engine::needs_fetch(const ImagePtr& image, std::uint32_t frame, std::uint64_t& copied) {
  {
    MutexLock lock(image->mu);
    if (image->frames.contains(frame)) return false;
  }
  auto chunks = fill_lacks(image, frame);
  // What is on its way for somebody else is left here, too.
  std::erase_if(chunks, [&](std::uint32_t chunk) {
    return in_flight_.add_target(image->key(chunk), {image, chunk});
  });
  if (chunks.empty()) return false;
  // A frame that must be fetched for one chunk brings the others, too: all or nothing.
  const auto all_in = [](const auto& likely) {
    return std::find(likely.begin(), likely.end(), false) == likely.end();
  };
  std::vector<bool> likely;
  for (const std::uint32_t chunk : chunks) likely.push_back(image->likely[chunk]);
  if (!all_in(likely)) {
    // Others may have brought it since.
    if (brought_by_others(*image) == image->looked_up_at) return true;
    if (!all_in(look_up(*image, chunks))) return true;
  }
  return !copy_chunks(image, chunks, copied);
}

// What images have put into the store, but for this one.
std::uint64_t Engine::brought_by_others(const ImageState& image) const {
  const auto brought = [](const Counters& counters) {
    return counters.chunks_fetched + counters.chunks_copied;
  };
  return brought(counters_) - brought(image.counters);
}

void Engine::look_up_all(ImageState& image) {
  std::vector<std::uint32_t> chunks(image.manifest->objects().total_chunks());
  std::iota(chunks.begin(), chunks.end(), 0);
  image.looked_up_at = brought_by_others(image);
  image.likely = look_up(image, chunks);
}

// Which of the chunks other objects probably have. In the order of their digests, in which the
// index has them.
std::vector<bool> Engine::look_up(const ImageState& image,
                                  const std::vector<std::uint32_t>& chunks) {
  const cdc::Objects& objects = image.manifest->objects();
  std::vector<std::uint32_t> order(chunks.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return objects.chunk(chunks[a]).digest < objects.chunk(chunks[b]).digest;
  });
  std::vector<cdc::Chunk> sorted;
  sorted.reserve(order.size());
  for (const std::uint32_t i : order) sorted.push_back(objects.chunk(chunks[i]));
  std::vector<bool> likely(chunks.size());
  for (std::size_t at = 0; at < sorted.size(); at += kLookUp) {
    const auto part = std::span(sorted).subspan(at, std::min(kLookUp, sorted.size() - at));
    const auto found = store_.likely_chunks(part, image.trust_domain());
    for (std::size_t i = 0; i < part.size(); ++i) likely[order[at + i]] = found[i];
  }
  return likely;
}

// The chunks of the frame that their objects lack.
std::vector<std::uint32_t> Engine::fill_lacks(const ImagePtr& image, std::uint32_t frame) {
  const cdc::Objects& objects = image->manifest->objects();
  std::vector<std::uint32_t> chunks;
  for (const std::uint32_t chunk : objects.chunks_in_frame(frame)) {
    const std::uint32_t object = objects.object_of_chunk(chunk);
    if (object_complete(image, object)) continue;
    const auto opened = open_object(*image, object);
    if (opened && (*opened)->has_chunk(chunk - objects.first_chunk(object))) continue;
    chunks.push_back(chunk);
  }
  return chunks;
}

bool Engine::copy_chunks(const ImagePtr& image, const std::vector<std::uint32_t>& chunks,
                         std::uint64_t& copied) {
  const std::string& domain = image->trust_domain();
  for (const std::uint32_t chunk : chunks) {
    const auto copy = store_.find_chunk(image->manifest->objects().chunk(chunk), domain);
    if (!copy || !*copy || deliver(image, chunk, **copy, Got::kCopied, domain) == Fate::kWrong) {
      return false;
    }
    copied += (*copy)->size();
  }
  return true;
}

bool Engine::object_complete(const ImagePtr& image, std::uint32_t object) {
  if (image->complete[object]) return true;
  const auto opened = open_object(*image, object);
  if (!opened || !(*opened)->complete()) return false;
  image->complete[object] = true;
  return true;
}

}  // namespace imsy::cas
