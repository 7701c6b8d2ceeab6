#include "cli/image/raw_reader.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace imsy::cli::image {
namespace {

std::string name_of(const cdc::Objects& objects, std::uint32_t index) {
  const cdc::Frame& frame = objects.frame(index);
  return "frame " + std::to_string(index) + " (" + std::to_string(frame.stored_size) +
         " bytes at " + std::to_string(frame.stored_offset) + " of the data layer)";
}

}  // namespace

FrameReader::FrameReader(ByteReader& blob, const cdc::Objects& objects, std::uint32_t layer)
    : blob_(blob), objects_(objects), layer_(layer) {
  while (next_ < objects.frame_count() && objects.frame(next_).layer < layer) ++next_;
}

Result<bool> FrameReader::next() {
  if (next_ == objects_.frame_count() || objects_.frame(next_).layer != layer_) return false;
  const cdc::Frame& frame = objects_.frame(next_);
  stored_.resize(frame.stored_size);
  IMSY_TRY(read_exactly(blob_, stored_));
  auto raw = decoder_.decode(stored_, frame.raw_size);
  if (!raw) return raw.error().with_context(name_of(objects_, next_));
  raw_ = std::move(*raw);
  ++next_;
  return true;
}

Status FrameReader::check_chunks() const {
  for (const std::uint32_t index : objects_.chunks_in_frame(frame())) {
    const cdc::Chunk& chunk = objects_.chunk(index);
    const auto bytes = raw().subspan(objects_.offset_in_frame(index), chunk.size);
    if (sha256(bytes) == chunk.digest) continue;
    return Error(Errc::kCorrupt, name_of(objects_, frame()) + ": holds other bytes than chunk " +
                                     chunk.digest.to_string());
  }
  return {};
}

Result<std::size_t> RawReader::read(std::span<std::byte> buffer) {
  if (used_ == frames_.raw().size()) {
    IMSY_TRY_ASSIGN(const bool more, frames_.next());
    if (!more) return std::size_t{0};
    hasher_.update(frames_.raw());
    used_ = 0;
  }
  const std::size_t count = std::min(buffer.size(), frames_.raw().size() - used_);
  std::memcpy(buffer.data(), frames_.raw().data() + used_, count);
  used_ += count;
  position_ += count;
  return count;
}

}  // namespace imsy::cli::image
