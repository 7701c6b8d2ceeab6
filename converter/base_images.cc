#include "converter/base_images.h"

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

Status BaseImages::add(std::shared_ptr<oci::ImageSource> source, const std::string& object) {
  IMSY_TRY_ASSIGN(auto document, source->get_manifest(object));
  if (!oci::is_index(document.media_type)) {
    IMSY_TRY_ASSIGN(auto image, read_image(*source, std::move(document)));
    return add_image(source, std::move(image));
  }
  IMSY_TRY_ASSIGN(const auto index, oci::parse_index(document));
  bool found = false;
  for (const auto& entry : index.manifests) {
    IMSY_TRY_ASSIGN(auto image, find_image(*source, entry, ""));
    if (!image) continue;
    const std::string platform = platform_name(image->config.platform);
    auto added = add_image(source, std::move(*image));
    if (!added) return added.error().with_context(platform);
    found = true;
  }
  if (!found) return Error(Errc::kInvalid, "the index holds no image");
  return {};
}

Status BaseImages::add_image(const std::shared_ptr<oci::ImageSource>& source, SourceImage image) {
  auto base = std::make_unique<Base>();
  IMSY_TRY_ASSIGN(base->image, open_converted(*source, std::move(image)));
  base->source = source;
  const auto& notes = base->image.image.manifest.annotations;
  if (const auto found = notes.find(std::string(annotation::kEncoder)); found != notes.end()) {
    base->encoder = found->second;
  }
  const cdc::Objects& objects = base->image.manifest->objects();
  for (std::uint32_t i = 0; i < objects.total_chunks(); ++i) {
    chunks_.insert(objects.chunk(i).digest);
  }
  // Frames are asked for from several threads, which only repositories can do.
  if (dynamic_cast<oci::Repository*>(source.get()) != nullptr) add_frames(*base);
  bases_.push_back(std::move(base));
  return {};
}

void BaseImages::add_frames(const Base& base) {
  const cdc::Objects& objects = base.image.manifest->objects();
  std::vector<cdc::ChunkDigest> chunks;
  for (std::uint32_t frame = 0; frame < objects.frame_count(); ++frame) {
    chunks.clear();
    for (const std::uint32_t chunk : objects.chunks_in_frame(frame)) {
      chunks.push_back(objects.chunk(chunk).digest);
    }
    if (!chunks.empty()) frames_.emplace(key_of(chunks), Place{&base, frame});
  }
}

std::optional<Bytes> BaseImages::find_frame(std::span<const cdc::ChunkDigest> chunks, ByteSpan raw,
                                            const std::string& encoder) const {
  if (frames_.empty() || chunks.empty()) return std::nullopt;
  const auto [first, last] = frames_.equal_range(key_of(chunks));
  for (auto found = first; found != last; ++found) {
    const auto& [base, number] = found->second;
    const cdc::Frame& frame = base->image.manifest->objects().frame(number);
    if (base->encoder != encoder || frame.raw_size != raw.size()) continue;
    if (!base->gives_frames.load(std::memory_order_relaxed)) continue;
    auto stored = base->source->read_part(base->image.image.manifest.layers[frame.layer + 1],
                                          frame.stored_offset, frame.stored_size);
    if (!stored) {
      if (base->gives_frames.exchange(false)) {
        log::warn("no more frames are taken from a base: {}", stored.error().message());
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
