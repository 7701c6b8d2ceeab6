#include "oci/tar/input.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace imsy::oci::tar {

Result<bool> BufferedInput::fill() {
  if (begin_ < end_) return true;
  IMSY_TRY_ASSIGN(const std::size_t got, source_.read(buffer_));
  begin_ = 0;
  end_ = got;
  return got > 0;
}

Result<std::size_t> BufferedInput::read(std::span<std::byte> buffer) {
  if (begin_ == end_ && buffer.size() >= buffer_.size()) {
    IMSY_TRY_ASSIGN(const std::size_t got, source_.read(buffer));
    offset_ += got;
    return got;
  }
  IMSY_TRY_ASSIGN(const bool more, fill());
  if (!more) return std::size_t{0};
  const std::size_t count = std::min(buffer.size(), end_ - begin_);
  std::memcpy(buffer.data(), buffer_.data() + begin_, count);
  begin_ += count;
  offset_ += count;
  return count;
}

Result<std::size_t> BufferedInput::read_full(std::span<std::byte> buffer) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    IMSY_TRY_ASSIGN(const std::size_t got, read(buffer.subspan(done)));
    if (got == 0) break;
    done += got;
  }
  return done;
}

Result<std::uint64_t> BufferedInput::skip(std::uint64_t count) {
  std::uint64_t done = 0;
  while (done < count) {
    IMSY_TRY_ASSIGN(const bool more, fill());
    if (!more) break;
    const auto step = std::min<std::uint64_t>(count - done, end_ - begin_);
    begin_ += static_cast<std::size_t>(step);
    done += step;
  }
  offset_ += done;
  return done;
}

Status BufferedInput::drain() {
  IMSY_TRY(skip(std::numeric_limits<std::uint64_t>::max()));
  return {};
}

}  // namespace imsy::oci::tar
