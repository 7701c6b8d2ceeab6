#include "converter/progress.h"

#include <cstdio>

namespace imsy::converter {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(100);

double megabytes(std::uint64_t bytes) {
  return static_cast<double>(bytes) / 1e6;
}

}  // namespace

Progress::~Progress() {
  MutexLock lock(mu_);
  if (line_open_) std::fputs("\n", stderr);
}

void Progress::begin_image(const std::string& name, std::uint64_t bytes_to_read) {
  {
    MutexLock lock(mu_);
    if (line_open_) std::fputs("\n", stderr);
    line_open_ = false;
    name_ = name;
  }
  read_ = raw_ = stored_ = to_write_ = 0;
  to_read_ = bytes_to_read;
  show(true);
}

void Progress::add_read(std::uint64_t bytes) {
  read_ += bytes;
  show(false);
}

void Progress::begin_writing(std::uint64_t bytes) {
  raw_ = stored_ = 0;
  to_write_ = bytes;
  show(true);
}

void Progress::add_written(std::uint64_t raw, std::uint64_t stored) {
  raw_ += raw;
  stored_ += stored;
  show(false);
}

void Progress::show(bool always) {
  if (!visible_) return;
  MutexLock lock(mu_);
  const auto now = std::chrono::steady_clock::now();
  if (name_.empty() || (!always && now - shown_ < kInterval)) return;
  shown_ = now;
  line_open_ = true;
  std::fprintf(stderr, "\r\033[K%s  read %.1f/%.1f MB", name_.c_str(), megabytes(read_),
               megabytes(to_read_));
  if (to_write_ > 0) {
    std::fprintf(stderr, "  packed %.1f/%.1f MB into %.1f MB", megabytes(raw_),
                 megabytes(to_write_), megabytes(stored_));
  }
  std::fflush(stderr);
}

}  // namespace imsy::converter
