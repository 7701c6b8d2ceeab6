#include "oci/blob_stream.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>

#include "oci/content_range.h"

namespace imsy::oci {
namespace {

constexpr std::size_t kAhead = 4u << 20;  // bytes fetched and not yet read, about
constexpr unsigned kResumesMax = 5;       // in a row, without a byte in between

// What the HTTP client's thread puts in and the reader takes out.
struct Feed {
  Mutex mu;
  CondVar changed;
  std::deque<Bytes> pieces IMSY_GUARDED_BY(mu);
  std::size_t queued IMSY_GUARDED_BY(mu) = 0;
  std::uint64_t received IMSY_GUARDED_BY(mu) = 0;  // of the blob, in all attempts
  bool answered IMSY_GUARDED_BY(mu) = false;       // headers of the present attempt were right
  bool ended IMSY_GUARDED_BY(mu) = false;          // the present attempt is over
  std::optional<Error> failure IMSY_GUARDED_BY(mu);
  bool abandoned IMSY_GUARDED_BY(mu) = false;
};

class BlobStream : public ByteReader {
 public:
  BlobStream(std::shared_ptr<Caller> caller, const std::string& repository, Descriptor descriptor)
      : caller_(std::move(caller)),
        what_(repository + ": blob " + descriptor.digest.to_string()),
        descriptor_(std::move(descriptor)),
        feed_(std::make_shared<Feed>()) {}

  ~BlobStream() override {
    {
      MutexLock lock(feed_->mu);
      feed_->abandoned = true;
    }
    caller_->http().wake();  // a paused transfer notices that nobody reads any more
  }

  Status start() {
    if (descriptor_.size == 0) return {};
    fetch(0);
    MutexLock lock(feed_->mu);
    while (!feed_->answered && !feed_->ended) feed_->changed.wait(feed_->mu);
    return feed_->answered || !feed_->failure ? Status() : Status(*feed_->failure);
  }

  Result<std::size_t> read(std::span<std::byte> buffer) override {
    if (used_ == current_.size()) {
      if (given_ == descriptor_.size) return finish();
      IMSY_TRY(next_piece());
    }
    const std::size_t n = std::min(buffer.size(), current_.size() - used_);
    std::memcpy(buffer.data(), current_.data() + used_, n);
    hasher_.update(ByteSpan(current_).subspan(used_, n));
    used_ += n;
    given_ += n;
    return n;
  }

 private:
  Result<std::size_t> finish() {
    if (!verified_ && hasher_.finish() != descriptor_.digest) {
      return Error(Errc::kCorrupt, what_ + " has another digest than its descriptor says");
    }
    verified_ = true;
    return std::size_t{0};
  }

  // Waits for the next piece; starts the transfer anew where it broke.
  Status next_piece() {
    for (;;) {
      std::uint64_t resume_at = 0;
      {
        MutexLock lock(feed_->mu);
        while (feed_->pieces.empty() && !feed_->ended) feed_->changed.wait(feed_->mu);
        if (!feed_->pieces.empty()) {
          current_ = std::move(feed_->pieces.front());
          feed_->pieces.pop_front();
          feed_->queued -= current_.size();
          used_ = 0;
          resumes_ = 0;
          break;
        }
        const bool final = feed_->failure && feed_->failure->code() != Errc::kUnavailable &&
                           feed_->failure->code() != Errc::kTimeout;
        if (final || ++resumes_ > kResumesMax) {
          return feed_->failure ? *feed_->failure
                                : Error(Errc::kUnavailable, what_ + " ends too early");
        }
        resume_at = feed_->received;
        feed_->ended = feed_->answered = false;
        feed_->failure.reset();
      }
      fetch(resume_at);
    }
    caller_->http().wake();
    return {};
  }

  void fetch(std::uint64_t offset) {
    const ContentRange wanted{offset, descriptor_.size - offset, descriptor_.size};
    HttpRequest request;
    request.url = caller_->url("blobs/" + descriptor_.digest.to_string());
    if (offset > 0) request.headers.emplace_back("Range", wanted.to_range_header());
    request.body_limit = wanted.length;
    request.on_headers = [feed = feed_, wanted,
                          what = what_](const HttpResponse& response) -> Status {
      IMSY_TRY(check_range(response, wanted, what));
      MutexLock lock(feed->mu);
      feed->answered = true;
      feed->changed.notify_all();
      return Status();
    };
    request.on_body = [feed = feed_](ByteSpan piece) -> Status {
      MutexLock lock(feed->mu);
      if (feed->abandoned) return Error(Errc::kCancelled, "nobody reads any more");
      feed->pieces.emplace_back(piece.begin(), piece.end());
      feed->queued += piece.size();
      feed->received += piece.size();
      feed->changed.notify_all();
      return {};
    };
    request.should_pause = [feed = feed_] {
      MutexLock lock(feed->mu);
      return feed->queued >= kAhead && !feed->abandoned;
    };
    caller_->send(std::move(request), {}, [feed = feed_, what = what_](Result<HttpResponse> done) {
      MutexLock lock(feed->mu);
      if (!done) {
        feed->failure = done.error().with_context(what);
      } else if (done->status / 100 != 2) {
        feed->failure = status_error(*done, what);
      }
      feed->ended = true;
      feed->changed.notify_all();
    });
  }

  std::shared_ptr<Caller> caller_;
  const std::string what_;
  const Descriptor descriptor_;
  std::shared_ptr<Feed> feed_;
  Bytes current_;  // being handed out, from used_ on
  std::size_t used_ = 0;
  std::uint64_t given_ = 0;
  unsigned resumes_ = 0;
  bool verified_ = false;
  Hasher hasher_;
};

}  // namespace

Result<std::unique_ptr<ByteReader>> open_blob_stream(std::shared_ptr<Caller> caller,
                                                     const std::string& repository,
                                                     const Descriptor& descriptor) {
  auto stream = std::make_unique<BlobStream>(std::move(caller), repository, descriptor);
  IMSY_TRY(stream->start());
  return std::unique_ptr<ByteReader>(std::move(stream));
}

}  // namespace imsy::oci
