#include "cas/frame_stream.h"

#include <algorithm>

namespace imsy::cas {

void FrameStream::take(ByteSpan piece, const Whole& whole) {
  while (!piece.empty() && next_ < frames_.size()) {
    const cdc::Frame& frame = objects_.frame(frames_[next_]);
    if (position_ < frame.stored_offset) {
      const std::uint64_t gap = frame.stored_offset - position_;
      const auto skipped = std::min<std::uint64_t>(gap, piece.size());
      position_ += skipped;
      between_ += skipped;
      piece = piece.subspan(skipped);
      continue;
    }
    if (begun_.empty()) begun_.reserve(frame.stored_size);
    const std::size_t lacking = frame.stored_size - begun_.size();
    const ByteSpan part = piece.first(std::min(lacking, piece.size()));
    append(begun_, part);
    position_ += part.size();
    piece = piece.subspan(part.size());
    if (part.size() == lacking) whole(frames_[next_++], std::exchange(begun_, {}));
  }
  between_ += piece.size();
}

}  // namespace imsy::cas
