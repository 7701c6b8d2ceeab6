#include "snapshotter/recorded_image.h"

#include <algorithm>
#include <string>
#include <utility>

#include "cdc/recording.h"
#include "common/log.h"

namespace imsy::snapshotter {

std::uint64_t RecordedImage::read(std::uint32_t object, std::uint64_t offset, std::uint32_t length,
                                  ReadDone done) {
  if (!over_) note(object, offset, length);
  return image_->read(object, offset, length, std::move(done));
}

void RecordedImage::note(std::uint32_t object, std::uint64_t offset, std::uint32_t length) {
  const cdc::Tree& tree = manifest()->tree();
  if (object >= tree.object_count() || offset >= tree.object_size(object) || length == 0) return;
  const cdc::Objects& objects = manifest()->objects();
  const auto read = std::min<std::uint64_t>(length, tree.object_size(object) - offset);
  const std::uint32_t last = objects.chunk_at(object, offset + read - 1);

  MutexLock lock(mu_);
  if (over_) return;
  if (seen_.empty()) {
    seen_.resize(objects.total_chunks());
    began_ = now_();
  }
  if (now_() >= began_ + kRecordingTime) return end();
  for (auto chunk = objects.chunk_at(object, offset); chunk <= last; ++chunk) {
    if (seen_[chunk]) continue;
    seen_[chunk] = true;
    cdc::append_access(lines_, chunk);
    if (++count_ == kRecordedAccesses) return end();
  }
}

// What was noted is still to be written.
void RecordedImage::end() {
  over_ = true;
  seen_ = std::vector<bool>();
}

RecordedImage::Noted RecordedImage::take_noted() {
  MutexLock lock(mu_);
  if (!seen_.empty() && now_() >= began_ + kRecordingTime) end();
  return {std::exchange(lines_, {}), count_, over_};
}

void RecordedImage::write() {
  MutexLock lock(file_mu_);
  if (closed_) return;
  const Noted noted = take_noted();
  const Status written = append(noted.lines);
  if (!written) {
    if (written.error().code() != Errc::kAlreadyExists) {
      log::warn("image {}: its start is {}: {}", manifest()->digest().to_string(),
                file_ ? "recorded only in part" : "not recorded", written.error().message());
    }
    close();
  } else if (noted.over) {
    log::info("image {}: its start is recorded, {} chunks", manifest()->digest().to_string(),
              noted.count);
    close();
  }
}

void RecordedImage::stop() {
  MutexLock lock(file_mu_);
  close();
}

Status RecordedImage::append(const std::string& lines) {
  if (lines.empty()) return {};
  if (!file_) {
    IMSY_TRY_ASSIGN(file_, create_());
  }
  return write_all(file_.get(), as_bytes(lines));
}

void RecordedImage::close() {
  closed_ = true;
  file_.reset();
  MutexLock lock(mu_);
  end();
  lines_ = std::string();
}

}  // namespace imsy::snapshotter
