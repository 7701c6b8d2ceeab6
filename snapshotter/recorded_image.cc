#include "snapshotter/recorded_image.h"

#include <algorithm>
#include <string>

#include "cdc/recording.h"
#include "common/log.h"

namespace imsy::snapshotter {

std::uint64_t RecordedImage::read(std::uint32_t object, std::uint64_t offset, std::uint32_t length,
                                  ReadDone done) {
  if (!over_) note(object, offset, length);
  return image_->read(object, offset, length, std::move(done));
}

void RecordedImage::end_when_due() {
  if (over_) return;
  MutexLock lock(mu_);
  if (file_ && is_due()) finish();
}

void RecordedImage::stop() {
  MutexLock lock(mu_);
  end();
}

void RecordedImage::note(std::uint32_t object, std::uint64_t offset, std::uint32_t length) {
  const cdc::Tree& tree = manifest()->tree();
  if (object >= tree.object_count() || offset >= tree.object_size(object) || length == 0) return;
  const cdc::Objects& objects = manifest()->objects();
  const auto read = std::min<std::uint64_t>(length, tree.object_size(object) - offset);
  const std::uint32_t last = objects.chunk_at(object, offset + read - 1);

  MutexLock lock(mu_);
  if (over_ || !begin()) return;
  if (is_due()) return finish();
  std::string lines;
  for (auto chunk = objects.chunk_at(object, offset); chunk <= last; ++chunk) {
    if (seen_[chunk] || count_ == kRecordedAccesses) continue;
    seen_[chunk] = true;
    ++count_;
    cdc::append_access(lines, chunk);
  }
  const Status written = write_all(file_.get(), as_bytes(lines));
  if (!written) {
    log::warn("image {}: its start is recorded only in part: {}", manifest()->digest().to_string(),
              written.error().message());
    end();
  } else if (count_ == kRecordedAccesses) {
    finish();
  }
}

// Whether it records.
bool RecordedImage::begin() {
  if (file_) return true;
  auto file = create_();
  if (!file) {
    if (file.error().code() != Errc::kAlreadyExists) {
      log::warn("image {}: its start is not recorded: {}", manifest()->digest().to_string(),
                file.error().message());
    }
    end();
    return false;
  }
  file_ = std::move(*file);
  seen_.resize(manifest()->objects().total_chunks());
  began_ = now_();
  return true;
}

void RecordedImage::finish() {
  log::info("image {}: its start is recorded, {} chunks", manifest()->digest().to_string(), count_);
  end();
}

void RecordedImage::end() {
  over_ = true;
  file_.reset();
  seen_ = std::vector<bool>();
}

}  // namespace imsy::snapshotter
