#include "converter/known_frames.h"

#include <algorithm>
#include <utility>

#include "cdc/frame.h"
#include "common/log.h"
#include "converter/image_writer.h"

namespace imsy::converter {
namespace {

Digest key_of(std::span<const cdc::ChunkDigest> chunks) {
  Hasher hasher;
  for (const auto& chunk : chunks) hasher.update(chunk.bytes());
  return hasher.finish();
}

}  // namespace

void KnownFrames::add(const std::shared_ptr<oci::ImageSource>& source, const ProvedImage& proved) {
  if (dynamic_cast<oci::Repository*>(source.get()) == nullptr) return;
  const auto& notes = proved.image.manifest.annotations;
  const auto encoder = notes.find(std::string(annotation::kEncoder));
  if (encoder == notes.end()) return;
  auto image = std::make_unique<Image>();
  image->source = source;
  image->encoder = encoder->second;
  image->layers = proved.image.manifest.layers;
  const cdc::Objects& objects = proved.manifest->objects();
  std::vector<cdc::ChunkDigest> chunks;
  for (std::uint32_t frame = 0; frame < objects.frame_count(); ++frame) {
    chunks.clear();
    for (const std::uint32_t chunk : objects.chunks_in_frame(frame)) {
      chunks.push_back(objects.chunk(chunk).digest);
    }
    if (!chunks.empty()) frames_.emplace(key_of(chunks), Place{image.get(), objects.frame(frame)});
  }
  images_.push_back(std::move(image));
}

std::optional<Bytes> KnownFrames::find(std::span<const cdc::ChunkDigest> chunks, ByteSpan raw,
                                       const std::string& encoder) const {
  if (frames_.empty() || chunks.empty()) return std::nullopt;
  const auto [first, last] = frames_.equal_range(key_of(chunks));
  for (auto found = first; found != last; ++found) {
    const auto& [image, frame] = found->second;
    if (image->encoder != encoder || frame.raw_size != raw.size()) continue;
    if (!image->gives.load(std::memory_order_relaxed)) continue;
    auto stored = image->source->read_part(image->layers[frame.layer + 1], frame.stored_offset,
                                           frame.stored_size);
    if (!stored) {
      if (image->gives.exchange(false)) {
        log::warn("no more frames are taken from an image: {}", stored.error().message());
      }
      continue;
    }
    const auto decoded = cdc::FrameDecoder().decode(*stored, frame.raw_size);
    if (decoded && std::equal(decoded->begin(), decoded->end(), raw.begin())) {
      return std::move(*stored);
    }
  }
  return std::nullopt;
}

}  // namespace imsy::converter
