#include "converter/read_ahead.h"

#include <algorithm>
#include <cstring>

#include "common/thread_pool.h"

namespace imsy::converter {

ReadAhead::ReadAhead(ByteReader& input) : input_(input), thread_([this] { run(); }) {}

ReadAhead::~ReadAhead() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  changed_.notify_all();
}

// Fills whole blocks, however little `input` gives at a time: an allocation per block, not per
// read.
void ReadAhead::run() {
  name_this_thread("read-ahead");
  for (bool more = true; more;) {
    Bytes block(kBlock);
    std::size_t filled = 0;
    Result<std::size_t> got(0);
    do {
      got = input_.read(std::span(block).subspan(filled));
      filled += got.value_or(0);
    } while (got && *got > 0 && filled < block.size());
    block.resize(filled);
    more = got && *got > 0;

    MutexLock lock(mu_);
    while (ready_.size() >= kBlocks && !stopping_) changed_.wait(mu_);
    if (stopping_) return;
    if (filled > 0) ready_.push_back(std::move(block));
    if (!got) failure_ = got.error();
    ended_ = !more;
    changed_.notify_all();
  }
}

Result<std::size_t> ReadAhead::read(std::span<std::byte> buffer) {
  if (used_ == current_.size()) {
    MutexLock lock(mu_);
    while (ready_.empty() && !ended_) changed_.wait(mu_);
    if (ready_.empty()) {
      if (failure_) return *failure_;
      return std::size_t{0};
    }
    current_ = std::move(ready_.front());
    ready_.pop_front();
    used_ = 0;
    changed_.notify_all();
  }
  const std::size_t n = std::min(buffer.size(), current_.size() - used_);
  std::memcpy(buffer.data(), current_.data() + used_, n);
  used_ += n;
  return n;
}

}  // namespace imsy::converter
