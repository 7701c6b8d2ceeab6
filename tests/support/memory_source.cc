#include "tests/support/memory_source.h"

#include <algorithm>
#include <utility>

namespace imsy::test {
namespace {

constexpr std::size_t kPiece = 50'000;  // ends nowhere in particular

}  // namespace

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

MemorySource::Cancel MemorySource::read(const cas::BlobRange& range,
                                        std::shared_ptr<cas::BlobReceiver> receiver) {
  auto request = std::make_shared<Request>();
  request->range = range;
  request->receiver = std::move(receiver);
  {
    MutexLock lock(mu_);
    request->number = ++last_number_;
    log_.push_back(range);
    waiting_.push_back(request);
  }
  changed_.notify_all();
  return [this, number = request->number] { cancel(number); };
}

// Its turn comes at once, and it is answered with kCancelled.
void MemorySource::cancel(std::uint64_t number) {
  {
    MutexLock lock(mu_);
    const auto is_it = [&](const RequestPtr& one) { return one->number == number; };
    const auto waits = std::find_if(waiting_.begin(), waiting_.end(), is_it);
    if (waits != waiting_.end()) {
      open_.push_back(*waits);
      waiting_.erase(waits);
    }
    const auto found = std::find_if(open_.begin(), open_.end(), is_it);
    if (found == open_.end()) return;
    (*found)->answer.resize((*found)->given);
    (*found)->end = Error(Errc::kCancelled, "cancelled");
    ++cancelled_;
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

cas::Cost MemorySource::cost() const {
  MutexLock lock(mu_);
  return cost_;
}

void MemorySource::set_cost(const cas::Cost& cost) {
  MutexLock lock(mu_);
  cost_ = cost;
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

void MemorySource::cut(std::uint64_t bytes, int count) {
  MutexLock lock(mu_);
  cut_ = bytes;
  cuts_ = count;
}

void MemorySource::shorten(std::uint64_t bytes) {
  MutexLock lock(mu_);
  shorten_ = bytes;
}

void MemorySource::stall(std::uint64_t bytes) {
  MutexLock lock(mu_);
  stall_ = bytes;
}

void MemorySource::go_on() {
  stall(~std::uint64_t{0});
  changed_.notify_all();
}

unsigned MemorySource::cancelled() const {
  MutexLock lock(mu_);
  return cancelled_;
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

Result<Bytes> MemorySource::answer(const cas::BlobRange& range) {
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
  return bytes;
}

void MemorySource::begin(Request& request) {
  auto bytes = answer(request.range);
  if (!bytes) {
    request.end = bytes.error();
    return;
  }
  request.answer = std::move(*bytes);
  request.answer.resize(request.answer.size() - std::min(shorten_, request.answer.size()));
  if (cuts_ > 0 && cut_ < request.answer.size()) {
    --cuts_;
    request.answer.resize(cut_);
    request.end = Error(Errc::kUnavailable, "cut off");
  }
}

bool MemorySource::may_go_on(const Request& request) const {
  return stopping_ || request.given == request.answer.size() || request.given < stall_;
}

// Nothing: there is nothing to do.
MemorySource::Step MemorySource::next_step() {
  while (!waiting_.empty() && (stopping_ || !holding_ || allowed_ > 0)) {
    if (holding_ && allowed_ > 0) --allowed_;
    open_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    if (!stopping_) begin(*open_.back());
  }
  const auto next = std::find_if(open_.begin(), open_.end(),
                                 [this](const RequestPtr& one) { return may_go_on(*one); });
  if (next == open_.end()) return {};
  Step step;
  step.request = std::move(*next);
  open_.erase(next);
  Request& request = *step.request;
  if (stopping_) {
    step.end = Error(Errc::kCancelled, "the source is gone");
    return step;
  }
  step.begins = request.given == 0 && !request.answer.empty();
  step.piece = ByteSpan(request.answer).subspan(request.given);
  const std::uint64_t most = std::min<std::uint64_t>(kPiece, stall_ - request.given);
  step.piece = step.piece.first(std::min<std::uint64_t>(most, step.piece.size()));
  request.given += step.piece.size();
  bytes_ += step.piece.size();
  if (request.given == request.answer.size()) {
    step.end = request.end;
  } else {
    open_.push_back(step.request);
  }
  return step;
}

void MemorySource::run() {
  for (;;) {
    Step step;
    std::string trust_domain;
    {
      MutexLock lock(mu_);
      while ((step = next_step()).request == nullptr) {
        if (stopping_) return;
        changed_.wait(mu_);
      }
      trust_domain = trust_domain_;
    }
    cas::BlobReceiver& receiver = *step.request->receiver;
    if (step.begins) receiver.begin(trust_domain);
    if (!step.piece.empty()) receiver.take(step.piece);
    if (step.end) receiver.end(*step.end);
  }
}

}  // namespace imsy::test
