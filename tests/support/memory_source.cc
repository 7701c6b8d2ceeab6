#include "tests/support/memory_source.h"

#include <utility>

namespace imsy::test {

MemorySource::MemorySource(std::string name) : name_(std::move(name)), thread_([this] { run(); }) {}

MemorySource::~MemorySource() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Digest MemorySource::add(Bytes blob) {
  const Digest digest = sha256(blob);
  MutexLock lock(mu_);
  blobs_[digest] = std::move(blob);
  return digest;
}

void MemorySource::add(const std::vector<Bytes>& blobs) {
  for (const Bytes& blob : blobs) add(blob);
}

void MemorySource::read(const cas::BlobRange& range, Done done) {
  {
    MutexLock lock(mu_);
    log_.push_back(range);
    waiting_.push_back({range, std::move(done)});
  }
  changed_.notify_all();
}

MemorySource::Time MemorySource::usable_at() const {
  MutexLock lock(mu_);
  return usable_at_;
}

void MemorySource::distrust(const Digest&) {
  MutexLock lock(mu_);
  ++distrusted_;
}

void MemorySource::set_trust_domain(std::string trust_domain) {
  MutexLock lock(mu_);
  trust_domain_ = std::move(trust_domain);
}

void MemorySource::set_usable_at(Time time) {
  MutexLock lock(mu_);
  usable_at_ = time;
}

unsigned MemorySource::distrusted() const {
  MutexLock lock(mu_);
  return distrusted_;
}

void MemorySource::hold() {
  MutexLock lock(mu_);
  holding_ = true;
  allowed_ = 0;
}

void MemorySource::release(std::size_t count) {
  {
    MutexLock lock(mu_);
    allowed_ += count;
  }
  changed_.notify_all();
}

void MemorySource::release_all() {
  {
    MutexLock lock(mu_);
    holding_ = false;
  }
  changed_.notify_all();
}

void MemorySource::wait_until_held(std::size_t count) {
  MutexLock lock(mu_);
  while (waiting_.size() < count) changed_.wait(mu_);
}

std::size_t MemorySource::held() const {
  MutexLock lock(mu_);
  return waiting_.size();
}

void MemorySource::fail_with(int count, Error error) {
  MutexLock lock(mu_);
  failures_ = count;
  failure_ = std::move(error);
}

void MemorySource::flip(const Digest& blob, std::uint64_t offset, int count) {
  MutexLock lock(mu_);
  flips_.push_back({blob, offset, count});
}

void MemorySource::repair() {
  MutexLock lock(mu_);
  flips_.clear();
}

std::uint64_t MemorySource::requests() const {
  MutexLock lock(mu_);
  return log_.size();
}

std::uint64_t MemorySource::bytes() const {
  MutexLock lock(mu_);
  return bytes_;
}

std::vector<cas::BlobRange> MemorySource::log() const {
  MutexLock lock(mu_);
  return log_;
}

Result<cas::Brought> MemorySource::answer(const cas::BlobRange& range) {
  if (failures_ != 0) {
    if (failures_ > 0) --failures_;
    return failure_;
  }
  const auto found = blobs_.find(range.blob);
  if (found == blobs_.end()) return Error(Errc::kNotFound, "no blob " + range.blob.to_string());
  const Bytes& blob = found->second;
  if (range.blob_size != blob.size() || range.offset > blob.size() ||
      range.length > blob.size() - range.offset || range.length == 0) {
    return Error(Errc::kInvalid, "not a range of blob " + range.blob.to_string());
  }
  const ByteSpan part = ByteSpan(blob).subspan(range.offset, range.length);
  Bytes bytes(part.begin(), part.end());
  for (Flip& flip : flips_) {
    const bool inside = flip.offset >= range.offset && flip.offset - range.offset < range.length;
    if (flip.blob != range.blob || !inside || flip.count == 0) continue;
    bytes[flip.offset - range.offset] ^= std::byte{1};
    if (flip.count > 0) --flip.count;
  }
  bytes_ += bytes.size();
  return cas::Brought{std::move(bytes), trust_domain_};
}

void MemorySource::run() {
  for (;;) {
    Done done;
    Result<cas::Brought> result = Error(Errc::kCancelled, "the source is gone");
    {
      MutexLock lock(mu_);
      while (!stopping_ && (waiting_.empty() || (holding_ && allowed_ == 0))) changed_.wait(mu_);
      if (waiting_.empty()) return;
      Request request = std::move(waiting_.front());
      waiting_.pop_front();
      if (holding_ && allowed_ > 0) --allowed_;
      if (!stopping_) result = answer(request.range);
      done = std::move(request.done);
    }
    done(std::move(result));
  }
}

}  // namespace imsy::test
