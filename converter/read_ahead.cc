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

void ReadAhead::run() {
  name_this_thread("read-ahead");
  for (;;) {
    Bytes block(kBlock);
    auto got = input_.read(block);
    MutexLock lock(mu_);
    if (!got || *got == 0) {
      if (!got) failure_ = got.error();
      ended_ = true;
      changed_.notify_all();
      return;
    }
    block.resize(*got);
    while (ready_.size() >= kBlocks && !stopping_) changed_.wait(mu_);
    if (stopping_) return;
    ready_.push_back(std::move(block));
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
