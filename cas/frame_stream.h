// FrameStream: cuts frames out of the bytes of a range, which come piece by piece. Pure.
//
// What lies between the frames is dropped. It holds no more than one unfinished frame.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "cas/blob_source.h"
#include "cdc/manifest.h"

namespace imsy::cas {

class FrameStream {
 public:
  using Whole = std::function<void(std::uint32_t frame, Bytes stored)>;

  // `frames`: in ascending order, of one data layer, inside `range`.
  FrameStream(const cdc::Objects& objects, std::vector<std::uint32_t> frames,
              const BlobRange& range)
      : objects_(objects), frames_(std::move(frames)), position_(range.offset) {}

  // Gives each frame whose last byte is in the piece. Bytes behind the last frame are dropped.
  void take(ByteSpan piece, const Whole& whole);
  // Bytes so far that were of no frame, and that are of a frame which is not whole.
  std::uint64_t between() const { return between_; }
  std::uint64_t unfinished() const { return begun_.size(); }
  // Those that are not whole.
  std::span<const std::uint32_t> missing() const { return std::span(frames_).subspan(next_); }

 private:
  const cdc::Objects& objects_;
  const std::vector<std::uint32_t> frames_;
  std::size_t next_ = 0;    // the frame that is awaited
  std::uint64_t position_;  // in the blob, of the next byte
  Bytes begun_;             // of the frame that is awaited
  std::uint64_t between_ = 0;
};

}  // namespace imsy::cas
