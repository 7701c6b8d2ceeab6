// RawReader: the tar of a data layer, read from its blob frame by frame.
//
// Threads: belongs to one thread; waits as the blob does.
#pragma once

#include "cdc/frame.h"
#include "cdc/manifest.h"
#include "common/stream.h"

namespace imsy::cli::image {

// Reads the frames of a data layer, in order, from the beginning of its blob.
class FrameReader {
 public:
  // Both outlive the reader.
  FrameReader(ByteReader& blob, const cdc::Objects& objects, std::uint32_t layer);

  // The next frame, or false when all have been read: the blob stands behind them then. kCorrupt,
  // with the frame's number and place: it does not decode to what the CDC manifest says.
  Result<bool> next();
  // The frame's number, and its bytes as they lie in the blob and decoded.
  std::uint32_t frame() const { return next_ - 1; }
  ByteSpan stored() const { return stored_; }
  ByteSpan raw() const { return raw_; }

  // Whether the chunks that the CDC manifest places in the frame are there. kCorrupt names one that
  // is not.
  Status check_chunks() const;

 private:
  ByteReader& blob_;
  const cdc::Objects& objects_;
  const std::uint32_t layer_;
  std::uint32_t next_ = 0;
  cdc::FrameDecoder decoder_;
  Bytes stored_;
  Bytes raw_;
};

// The same as one stream, hashed.
class RawReader : public ByteReader {
 public:
  RawReader(ByteReader& blob, const cdc::Objects& objects, std::uint32_t layer)
      : frames_(blob, objects, layer) {}

  Result<std::size_t> read(std::span<std::byte> buffer) override;
  std::uint64_t position() const { return position_; }
  // Of all frames read so far.
  Digest finish_diff_id() { return hasher_.finish(); }

 private:
  FrameReader frames_;
  Hasher hasher_;
  std::uint64_t position_ = 0;
  std::size_t used_ = 0;  // of the present frame
};

}  // namespace imsy::cli::image
