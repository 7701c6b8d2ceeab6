#include "oci/blob_upload.h"

#include <algorithm>
#include <charconv>
#include <future>
#include <optional>
#include <thread>
#include <utility>

namespace imsy::oci {
namespace {

constexpr std::uint64_t kPieceSizeMax = 256u << 20;  // the largest minimum that is obeyed
// A registry may hash or move a whole blob before it answers the last request.
constexpr std::chrono::minutes kCommitTimeout{5};

Result<std::uint64_t> to_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size()) {
    return Error(Errc::kInvalid, "no number");
  }
  return value;
}

class BlobUpload : public BlobWriter {
 public:
  BlobUpload(std::shared_ptr<Caller> caller, const std::string& name)
      : caller_(std::move(caller)),
        name_(name),
        what_(name + ": upload of a blob"),
        backoff_(caller_->first_retry_delay()) {}

  ~BlobUpload() override {
    if (sending_) caller_->cancel(sending_->call);
    abandon();
  }

  // Whether the blob is there now, without an upload. What goes wrong is no error: it is uploaded
  // like any other then.
  bool mount(Caller& mounter, const Digest& digest, const std::string& repository) {
    const std::string query = with_query("blobs/uploads/", "mount", digest.to_string());
    const auto response = post(mounter, with_query(query, "from", repository));
    if (!response) return false;
    if (response->status == 202 && !take_session(*response)) location_.reset();
    return response->status == 201;
  }

  Status write(ByteSpan data) override {
    hasher_.update(data);
    total_ += data.size();
    while (!data.empty()) {
      const ByteSpan part = data.first(std::min(data.size(), piece_size_ - piece_.size()));
      append(piece_, part);
      data = data.subspan(part.size());
      if (piece_.size() < piece_size_) continue;
      if (!location_) IMSY_TRY(open_session());
      if (piece_.size() >= piece_size_) IMSY_TRY(send_piece());  // it may want larger pieces
    }
    return {};
  }

  Result<Arrival> commit(const Digest& digest) override {
    if (const Digest found = hasher_.finish(); found != digest) {
      return Error(Errc::kCorrupt, what_ + ": announced as " + digest.to_string() + ", but it is " +
                                       found.to_string());
    }
    if (!location_) {
      IMSY_TRY_ASSIGN(const bool there, find_blob(caller_, name_, digest, total_));
      if (there) return Arrival::kWasThere;
      IMSY_TRY(open_session());
    }
    // Some registries take no content with the last request once there were pieces before.
    const bool in_pieces = sending_ || accepted_ > 0;
    if (in_pieces && !piece_.empty()) IMSY_TRY(send_piece());
    IMSY_TRY(settle());
    const auto rest = std::make_shared<const Bytes>(std::exchange(piece_, {}));
    IMSY_TRY(put(digest, rest));
    location_.reset();
    return Arrival::kSent;
  }

 private:
  // A piece under way.
  struct Sending {
    std::shared_ptr<const Bytes> piece;
    std::shared_ptr<Caller::Call> call;
    std::future<Result<HttpResponse>> answer;
  };

  Result<HttpResponse> post(Caller& caller, const std::string& path) {
    HttpRequest request;
    request.method = "POST";
    request.url = caller.url(path);
    auto response = caller.perform(std::move(request));
    if (!response) return response.error().with_context(what_);
    return response;
  }

  Status open_session() {
    IMSY_TRY_ASSIGN(const auto response, post(*caller_, "blobs/uploads/"));
    if (response.status != 202) return status_error(response, what_);
    return take_session(response);
  }

  Status take_session(const HttpResponse& response) {
    if (const auto least = to_number(response.header("oci-chunk-min-length"))) {
      if (*least > kPieceSizeMax) {
        return Error(Errc::kInvalid, what_ + ": the registry wants pieces of at least " +
                                         std::to_string(*least) + " bytes, which is too much");
      }
      piece_size_ = static_cast<std::size_t>(std::max(*least, kUploadPiece));
    }
    return take_location(response, caller_->root());
  }

  // Tells the registry that it may forget what it got; nobody waits for the answer.
  void abandon() {
    if (!location_) return;
    HttpRequest request;
    request.method = "DELETE";
    request.url = location_->text;
    caller_->send(std::move(request), {.repeat = false}, [](const Result<HttpResponse>&) {});
    location_.reset();
  }

  Error lost() const {
    return Error(Errc::kFailedPrecondition,
                 what_ + ": the registry has lost what it got of it; push it again");
  }

  // The registry names the place of the next request with every answer.
  Status take_location(const HttpResponse& response, const Url& base) {
    auto next = resolve_url(base, response.header("location"));
    if (!next) {
      return Error(Errc::kInvalid, what_ + ": the registry names no usable upload location");
    }
    if (base.scheme == "https" && next->scheme != "https") {
      return Error(Errc::kDenied, what_ +
                                      ": the registry sends the upload from https to plain "
                                      "http, where it is not sent");
    }
    location_ = std::move(*next);
    return {};
  }

  HttpRequest patch_request(const std::shared_ptr<const Bytes>& piece, std::uint64_t from) const {
    HttpRequest request;
    request.method = "PATCH";
    request.url = location_->text;
    request.headers.emplace_back("Content-Type", "application/octet-stream");
    request.headers.emplace_back(
        "Content-Range",
        std::to_string(accepted_ + from) + "-" + std::to_string(accepted_ + piece->size() - 1));
    request.body = from == 0
                       ? piece
                       : std::make_shared<const Bytes>(
                             piece->begin() + static_cast<std::ptrdiff_t>(from), piece->end());
    return request;
  }

  // Starts to send piece_, after the one before it has been accepted.
  Status send_piece() {
    IMSY_TRY(settle());
    Sending sending;
    sending.piece = std::make_shared<const Bytes>(std::exchange(piece_, {}));
    auto answer = std::make_shared<std::promise<Result<HttpResponse>>>();
    sending.answer = answer->get_future();
    sending.call = caller_->send(
        patch_request(sending.piece, 0), {.repeat = false},
        [answer](Result<HttpResponse> result) { answer->set_value(std::move(result)); });
    sending_ = std::move(sending);
    return {};
  }

  // Waits until the piece under way has been accepted; sends what is missing of it again.
  Status settle() {
    if (!sending_) return {};
    const auto piece = sending_->piece;
    Status outcome = take_patched(sending_->answer.get());
    sending_.reset();
    for (unsigned retry = 1; !outcome && is_transient(outcome.error().code()); ++retry) {
      if (retry > kRetriesMax) return outcome;
      std::this_thread::sleep_for(backoff_.delay(retry));
      IMSY_TRY_ASSIGN(const std::uint64_t have, ask_accepted());
      if (have < accepted_ || have > accepted_ + piece->size()) return lost();
      if (have == accepted_ + piece->size()) {
        outcome = {};
      } else {
        outcome = take_patched(
            caller_->perform(patch_request(piece, have - accepted_), {.repeat = false}));
      }
    }
    if (outcome) accepted_ += piece->size();
    return outcome;
  }

  Status take_patched(const Result<HttpResponse>& response) {
    if (!response) return response.error().with_context(what_);
    if (response->status == 404) return lost();
    if (response->status == 416) {
      return Error(Errc::kUnavailable, what_ + ": the registry expects another range");
    }
    if (response->status != 202) return status_error(*response, what_);
    return take_location(*response, *location_);
  }

  // How many bytes of the blob the registry has.
  Result<std::uint64_t> ask_accepted() {
    HttpRequest request;
    request.url = location_->text;
    auto response = caller_->perform(std::move(request));
    if (!response) return response.error().with_context(what_);
    if (response->status == 404) return lost();
    if (response->status != 204) return status_error(*response, what_);
    IMSY_TRY(take_location(*response, *location_));
    const std::string text = response->header("range");
    if (text.empty()) return std::uint64_t{0};  // nothing yet
    std::string_view range = text;
    if (range.starts_with("bytes=")) range.remove_prefix(6);
    if (!range.starts_with("0-")) {
      return Error(Errc::kInvalid, what_ + ": the registry does not say what it has");
    }
    auto last = to_number(range.substr(2));
    if (!last) return last.error().with_context(what_);
    return *last == 0 ? 0 : *last + 1;  // "0-0" says nothing, not one byte
  }

  // The last request. When its answer is lost the blob may be there all the same. If not, nobody
  // can tell how much of `rest` has come: it is sent to a new upload, if it is all there is.
  Status put(const Digest& digest, const std::shared_ptr<const Bytes>& rest) {
    const bool whole = rest->size() == total_;
    for (unsigned retry = 1;; ++retry) {
      const Status outcome =
          take_put(caller_->perform(put_request(digest, rest), {.repeat = false}), digest);
      if (outcome || outcome.error().code() == Errc::kCorrupt) return outcome;
      auto there = find_blob(caller_, name_, digest, total_);
      if (there && *there) return {};
      const Errc code = outcome.error().code();
      const bool mendable = is_transient(code) || (whole && code == Errc::kFailedPrecondition);
      if (!mendable || retry > kRetriesMax) return outcome;
      std::this_thread::sleep_for(backoff_.delay(retry));
      if (!whole) continue;
      abandon();
      IMSY_TRY(open_session());
    }
  }

  HttpRequest put_request(const Digest& digest, const std::shared_ptr<const Bytes>& rest) const {
    HttpRequest request;
    request.method = "PUT";
    request.url = with_query(location_->text, "digest", digest.to_string());
    request.headers.emplace_back("Content-Type", "application/octet-stream");
    request.body = rest;
    request.idle_timeout = kCommitTimeout;
    return request;
  }

  Status take_put(const Result<HttpResponse>& response, const Digest& digest) const {
    if (!response) return response.error().with_context(what_);
    if (response->status == 404) return lost();
    if (response->status != 201) return status_error(*response, what_);
    const std::string stored = response->header("docker-content-digest");
    if (!stored.empty() && stored != digest.to_string()) {
      return Error(Errc::kCorrupt, what_ + ": the registry stored other content than was sent");
    }
    return {};
  }

  const std::shared_ptr<Caller> caller_;
  const std::string name_;
  const std::string what_;
  Backoff backoff_;
  std::optional<Url> location_;  // of the session, while one is open
  std::size_t piece_size_ = kUploadPiece;
  Bytes piece_;  // is being filled
  std::optional<Sending> sending_;
  std::uint64_t accepted_ = 0;  // by the registry, without the piece under way
  std::uint64_t total_ = 0;
  Hasher hasher_;
};

}  // namespace

Result<bool> find_blob(const std::shared_ptr<Caller>& caller, const std::string& name,
                       const Digest& digest, std::uint64_t size) {
  const std::string what = name + ": blob " + digest.to_string();
  HttpRequest request;
  request.method = "HEAD";
  request.url = caller->url("blobs/" + digest.to_string());
  auto response = caller->perform(std::move(request));
  if (!response) return response.error().with_context(what);
  if (response->status == 404) return false;
  if (response->status != 200) return status_error(*response, what);
  const std::string length = response->header("content-length");
  return length.empty() || length == std::to_string(size);
}

std::unique_ptr<BlobWriter> open_blob_upload(std::shared_ptr<Caller> caller,
                                             const std::string& name) {
  return std::make_unique<BlobUpload>(std::move(caller), name);
}

std::unique_ptr<BlobWriter> mount_blob(std::shared_ptr<Caller> caller, Caller& mounter,
                                       const std::string& name, const Digest& digest,
                                       const std::string& repository) {
  auto upload = std::make_unique<BlobUpload>(std::move(caller), name);
  if (upload->mount(mounter, digest, repository)) return nullptr;
  return upload;
}

}  // namespace imsy::oci
