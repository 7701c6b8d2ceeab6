#include "oci/blob_upload.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace imsy::oci {
namespace {

constexpr std::uint64_t kPiece = 8u << 20;
constexpr std::uint64_t kPieceMax = 1u << 30;  // the largest minimum a registry may ask for
constexpr unsigned kTriesMax = 5;              // for one piece

class BlobUpload : public BlobWriter {
 public:
  BlobUpload(std::shared_ptr<Caller> caller, const std::string& repository)
      : caller_(std::move(caller)), what_(repository + ": upload of a blob") {}

  ~BlobUpload() override {
    if (!location_ || committed_) return;
    HttpRequest request;  // the registry may forget what it got; nobody waits for the answer
    request.method = "DELETE";
    request.url = location_->text;
    caller_->send(std::move(request), {.repeat = false}, [](const Result<HttpResponse>&) {});
  }

  Status write(ByteSpan data) override {
    hasher_.update(data);
    while (!data.empty()) {
      const auto room = static_cast<std::size_t>(piece_size_ - piece_.size());
      const auto part = data.first(std::min(room, data.size()));
      append(piece_, part);
      data = data.subspan(part.size());
      if (piece_.size() == piece_size_) IMSY_TRY(send_piece());
    }
    return {};
  }

  Status commit(const Digest& digest) override {
    if (const Digest found = hasher_.finish(); found != digest) {
      return Error(Errc::kCorrupt, what_ + ": announced as " + digest.to_string() + ", but it is " +
                                       found.to_string());
    }
    if (!location_) IMSY_TRY(open_session());
    if (sent_ > 0 && !piece_.empty()) IMSY_TRY(send_piece());
    HttpRequest request;
    request.method = "PUT";
    request.url = with_query(location_->text, "digest", digest.to_string());
    request.headers.emplace_back("Content-Type", "application/octet-stream");
    request.body = std::make_shared<const Bytes>(std::move(piece_));
    auto response = caller_->perform(std::move(request), {.repeat = false});
    if (!response) return response.error().with_context(what_);
    if (response->status != 201) return status_error(*response, what_);
    const std::string stored = response->header("docker-content-digest");
    if (!stored.empty() && stored != digest.to_string()) {
      return Error(Errc::kCorrupt, what_ + ": the registry stored other bytes than were sent");
    }
    committed_ = true;
    return {};
  }

 private:
  Status open_session() {
    HttpRequest request;
    request.method = "POST";
    request.url = caller_->url("blobs/uploads/");
    request.body = std::make_shared<const Bytes>();
    auto response = caller_->perform(std::move(request));
    if (!response) return response.error().with_context(what_);
    if (response->status != 202) return status_error(*response, what_);
    const std::string minimum = response->header("oci-chunk-min-length");
    std::uint64_t bytes = 0;
    std::from_chars(minimum.data(), minimum.data() + minimum.size(), bytes);
    piece_size_ = std::clamp(bytes, kPiece, kPieceMax);
    return take_location(*response, caller_->endpoint());
  }

  // The registry names the place of the next request with every answer.
  Status take_location(const HttpResponse& response, const Url& base) {
    const std::string location = response.header("location");
    if (location.empty()) {
      return Error(Errc::kInvalid, what_ + ": the registry names no upload location");
    }
    auto next = resolve_url(base, location);
    if (!next) return next.error().with_context(what_);
    if (base.scheme == "https" && next->scheme != "https") {
      return Error(Errc::kInvalid, what_ + ": the registry sends the upload to plain http");
    }
    location_ = std::move(*next);
    return {};
  }

  Status send_piece() {
    if (!location_) IMSY_TRY(open_session());
    if (piece_.size() < piece_size_ && sent_ == 0) return {};  // the registry wants larger pieces
    const auto whole = std::make_shared<const Bytes>(std::exchange(piece_, {}));
    std::uint64_t accepted = 0;  // of this piece
    std::optional<Error> failure;
    for (unsigned tries = 0; tries < kTriesMax; ++tries) {
      if (tries > 0) {
        auto status = ask_accepted(whole->size());
        if (!status) return status.error();
        accepted = *status;
      }
      if (accepted == whole->size()) break;
      auto sent = patch(whole, accepted);
      if (sent) {
        accepted = whole->size();
        failure.reset();
        break;
      }
      failure = sent.error();
      if (failure->code() != Errc::kUnavailable && failure->code() != Errc::kTimeout) break;
    }
    if (accepted != whole->size()) {
      return failure ? *failure : Error(Errc::kUnavailable, what_ + ": a piece was not accepted");
    }
    sent_ += whole->size();
    return {};
  }

  Status patch(const std::shared_ptr<const Bytes>& whole, std::uint64_t from) {
    HttpRequest request;
    request.method = "PATCH";
    request.url = location_->text;
    request.headers.emplace_back("Content-Type", "application/octet-stream");
    request.headers.emplace_back("Content-Range", std::to_string(sent_ + from) + "-" +
                                                      std::to_string(sent_ + whole->size() - 1));
    request.body = from == 0
                       ? whole
                       : std::make_shared<const Bytes>(
                             whole->begin() + static_cast<std::ptrdiff_t>(from), whole->end());
    auto response = caller_->perform(std::move(request), {.repeat = false});
    if (!response) return response.error().with_context(what_);
    if (response->status == 416) {  // it has more or less than we think: ask
      return Error(Errc::kUnavailable, what_ + ": the registry expects another range");
    }
    if (response->status != 202) return status_error(*response, what_);
    return take_location(*response, *location_);
  }

  // How many bytes of the present piece the registry has.
  Result<std::uint64_t> ask_accepted(std::uint64_t piece) {
    HttpRequest request;
    request.url = location_->text;
    auto response = caller_->perform(std::move(request));
    if (!response) return response.error().with_context(what_);
    if (response->status != 204) return status_error(*response, what_);
    IMSY_TRY(take_location(*response, *location_));
    const std::string range = response->header("range");  // "0-<last byte>"
    const auto dash = range.find('-');
    std::uint64_t last = 0;
    if (dash != std::string::npos) {
      std::from_chars(range.data() + dash + 1, range.data() + range.size(), last);
    }
    const std::uint64_t have = last == 0 ? 0 : last + 1;
    if (have < sent_ || have > sent_ + piece) {
      return Error(Errc::kUnavailable, what_ + ": the registry lost a part of it; push again");
    }
    return have - sent_;
  }

  std::shared_ptr<Caller> caller_;
  const std::string what_;
  std::optional<Url> location_;  // none before the session is open
  std::uint64_t piece_size_ = kPiece;
  std::uint64_t sent_ = 0;  // accepted by the registry
  Bytes piece_;
  Hasher hasher_;
  bool committed_ = false;
};

}  // namespace

Result<std::unique_ptr<BlobWriter>> open_blob_upload(std::shared_ptr<Caller> caller,
                                                     const std::string& repository) {
  return std::unique_ptr<BlobWriter>(std::make_unique<BlobUpload>(std::move(caller), repository));
}

}  // namespace imsy::oci
