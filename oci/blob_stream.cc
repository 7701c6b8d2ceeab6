#include "oci/blob_stream.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <optional>
#include <thread>
#include <utility>

#include "common/mutex.h"
#include "oci/content_range.h"

namespace imsy::oci {
namespace {

constexpr std::size_t kAhead = 4u << 20;    // bytes fetched and not yet read, about
constexpr std::size_t kPiece = 256u << 10;  // in which they are kept
constexpr unsigned kResumesIdleMax = 5;     // in a row, without a byte in between
constexpr unsigned kResumesMax = 100;       // for one blob

// What the HTTP client's thread puts in and the reader takes out; one for all attempts.
class Feed {
 public:
  explicit Feed(std::uint64_t size) : size_(size) {}

  // The HTTP client's side.

  // The headers of an attempt that begins at `offset` of the blob were right.
  void begin(std::uint64_t offset) {
    const MutexLock lock(mu_);
    skip_ = received_ - offset;
    answered_ = true;
    changed_.notify_one();
  }
  Status put(ByteSpan piece) {
    const MutexLock lock(mu_);
    const auto known = static_cast<std::size_t>(std::min<std::uint64_t>(skip_, piece.size()));
    skip_ -= known;
    piece = piece.subspan(known);
    if (piece.size() > size_ - received_) {
      return Error(Errc::kCorrupt, "the blob is longer than its descriptor says");
    }
    if (pieces_.empty() || pieces_.back().size() + piece.size() > kPiece) {
      pieces_.emplace_back().reserve(kPiece);
    }
    append(pieces_.back(), piece);
    queued_ += piece.size();
    received_ += piece.size();
    changed_.notify_one();
    return {};
  }
  bool full() {
    const MutexLock lock(mu_);
    paused_ = paused_ || queued_ >= kAhead;
    return paused_;
  }
  void end(std::optional<Error> failure) {
    const MutexLock lock(mu_);
    ended_ = true;
    failure_ = std::move(failure);
    changed_.notify_one();
  }

  // The reader's side.

  // Waits for the first answer; an error when there is none.
  Status wait_for_answer() {
    const MutexLock lock(mu_);
    while (!answered_ && !ended_) changed_.wait(mu_);
    if (failure_ && !answered_) return *failure_;
    return {};
  }
  // Waits for a piece; nothing when the attempt has ended and all it brought was taken.
  std::optional<Bytes> take() {
    const MutexLock lock(mu_);
    while (pieces_.empty() && !ended_) changed_.wait(mu_);
    if (pieces_.empty()) return {};
    Bytes piece = std::move(pieces_.front());
    pieces_.pop_front();
    queued_ -= piece.size();
    return piece;
  }
  // Whether a paused transfer should go on now.
  bool drained() {
    const MutexLock lock(mu_);
    if (!paused_ || queued_ > kAhead / 2) return false;
    paused_ = false;
    return true;
  }
  // Makes ready for another attempt; returns why the last one ended.
  std::optional<Error> restart() {
    const MutexLock lock(mu_);
    ended_ = paused_ = false;
    return std::exchange(failure_, std::nullopt);
  }
  std::uint64_t received() {
    const MutexLock lock(mu_);
    return received_;
  }

 private:
  const std::uint64_t size_;  // of the blob
  Mutex mu_;
  CondVar changed_;
  std::deque<Bytes> pieces_ IMSY_GUARDED_BY(mu_);
  std::size_t queued_ IMSY_GUARDED_BY(mu_) = 0;
  std::uint64_t received_ IMSY_GUARDED_BY(mu_) = 0;  // of the blob, in all attempts
  std::uint64_t skip_ IMSY_GUARDED_BY(mu_) = 0;      // bytes coming that were received before
  bool answered_ IMSY_GUARDED_BY(mu_) = false;
  bool ended_ IMSY_GUARDED_BY(mu_) = false;  // the present attempt is over
  bool paused_ IMSY_GUARDED_BY(mu_) = false;
  std::optional<Error> failure_ IMSY_GUARDED_BY(mu_);
};

class BlobStream : public ByteReader {
 public:
  BlobStream(std::shared_ptr<Caller> caller, std::string url, const std::string& name,
             const Descriptor& descriptor)
      : caller_(std::move(caller)),
        url_(std::move(url)),
        what_(name + ": blob " + descriptor.digest.to_string()),
        size_(descriptor.size),
        digest_(descriptor.digest),
        feed_(std::make_shared<Feed>(size_)),
        backoff_(caller_->first_retry_delay()) {}

  ~BlobStream() override {
    if (call_) caller_->cancel(call_);
  }

  Status start() {
    if (size_ == 0) return {};  // there is no range to ask for, and nothing to learn
    fetch(0);
    return feed_->wait_for_answer();
  }

  Result<std::size_t> read(std::span<std::byte> buffer) override {
    if (buffer.empty()) return std::size_t{0};
    if (used_ == current_.size()) {
      if (given_ == size_) return finish();
      IMSY_TRY(next_piece());
    }
    const std::size_t count = std::min(buffer.size(), current_.size() - used_);
    std::memcpy(buffer.data(), current_.data() + used_, count);
    hasher_.update(ByteSpan(current_).subspan(used_, count));
    used_ += count;
    given_ += count;
    return count;
  }

 private:
  Result<std::size_t> finish() {
    if (!finished_) {
      finished_ = true;
      right_ = hasher_.finish() == digest_;
    }
    if (right_) return std::size_t{0};
    return Error(Errc::kCorrupt, what_ + ": other content was sent");
  }

  // Waits for the next piece; starts the transfer anew where it broke.
  Status next_piece() {
    for (;;) {
      if (auto piece = feed_->take()) {
        current_ = std::move(*piece);
        used_ = 0;
        if (feed_->drained()) caller_->http().wake();
        if (!current_.empty()) return {};
        continue;
      }
      IMSY_TRY(resume());
    }
  }

  Status resume() {
    const std::uint64_t received = feed_->received();
    const std::optional<Error> failure = feed_->restart();
    if (failure && !is_transient(failure->code())) return *failure;
    idle_resumes_ = received == resumed_at_ ? idle_resumes_ + 1 : 1;
    if (idle_resumes_ > kResumesIdleMax || ++resumes_ > kResumesMax) {
      return failure ? *failure : Error(Errc::kUnavailable, what_ + ": ends too early");
    }
    resumed_at_ = received;
    if (idle_resumes_ > 1) std::this_thread::sleep_for(backoff_.delay(idle_resumes_ - 1));
    fetch(received);
    return {};
  }

  void fetch(std::uint64_t offset) {
    const ContentRange rest{offset, size_ - offset, size_};
    HttpRequest request;
    request.url = url_;
    if (offset > 0) request.headers.emplace_back("Range", rest.to_range_header());
    request.body_limit = std::numeric_limits<std::uint64_t>::max();  // the feed counts
    // A registry that sends all of the blob again is accepted: what comes is counted and hashed.
    request.on_headers = [feed = feed_, rest,
                          what = what_](const HttpResponse& response) -> Status {
      const ContentRange whole{0, rest.total, rest.total};
      const ContentRange& coming = response.status == 200 ? whole : rest;
      IMSY_TRY(check_range(response, coming, what));
      feed->begin(coming.offset);
      return {};
    };
    request.on_body = [feed = feed_](ByteSpan piece) { return feed->put(piece); };
    request.should_pause = [feed = feed_] { return feed->full(); };
    call_ = caller_->send(std::move(request), {},
                          [feed = feed_, what = what_](const Result<HttpResponse>& result) {
                            std::optional<Error> failure;
                            if (!result) {
                              failure = result.error().with_context(what);
                            } else if (result->status / 100 != 2) {
                              failure = status_error(*result, what);
                            }
                            feed->end(std::move(failure));
                          });
  }

  const std::shared_ptr<Caller> caller_;
  const std::string url_;
  const std::string what_;
  const std::uint64_t size_;
  const Digest digest_;
  const std::shared_ptr<Feed> feed_;
  std::shared_ptr<Caller::Call> call_;
  Backoff backoff_;

  Bytes current_;  // is being handed out, from used_ on
  std::size_t used_ = 0;
  std::uint64_t given_ = 0;
  Hasher hasher_;
  bool finished_ = false;
  bool right_ = false;
  unsigned resumes_ = 0;
  unsigned idle_resumes_ = 0;
  std::uint64_t resumed_at_ = 0;
};

}  // namespace

Result<std::unique_ptr<ByteReader>> open_blob_stream(const std::shared_ptr<Caller>& caller,
                                                     const std::string& url,
                                                     const std::string& name,
                                                     const Descriptor& descriptor) {
  auto stream = std::make_unique<BlobStream>(caller, url, name, descriptor);
  IMSY_TRY(stream->start());
  return std::unique_ptr<ByteReader>(std::move(stream));
}

}  // namespace imsy::oci
