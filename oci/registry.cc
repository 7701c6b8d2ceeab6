#include "oci/registry.h"

#include <algorithm>
#include <atomic>
#include <future>
#include <utility>

#include "oci/blob_stream.h"
#include "oci/blob_upload.h"
#include "oci/call.h"
#include "oci/content_range.h"
#include "oci/json.h"
#include "oci/reference.h"

namespace imsy::oci {
namespace {

constexpr unsigned kReferrerPagesMax = 32;
constexpr unsigned kReferrerTriesMax = 5;
constexpr unsigned kUploadTriesMax = 3;  // of one that the registry has lost
constexpr unsigned kParallelWrites = 4;

std::string accepted_manifests() {
  std::string accepted;
  for (const auto type : {media_type::kOciManifest, media_type::kOciIndex,
                          media_type::kDockerManifest, media_type::kDockerIndex}) {
    if (!accepted.empty()) accepted += ", ";
    accepted += type;
  }
  return accepted;
}

std::string bare_media_type(const std::string& content_type) {
  std::string bare = content_type.substr(0, content_type.find(';'));
  while (!bare.empty() && bare.back() == ' ') bare.pop_back();
  return bare;
}

std::shared_ptr<const Bytes> body_of(std::string_view data) {
  const ByteSpan bytes = as_bytes(data);
  return std::make_shared<const Bytes>(bytes.begin(), bytes.end());
}

// Begins an upload again that the registry has lost.
Result<Arrival> begin_again(const std::function<Result<Arrival>()>& upload) {
  for (unsigned tries = 1;; ++tries) {
    auto outcome = upload();
    const bool lost = !outcome && outcome.error().code() == Errc::kFailedPrecondition;
    if (!lost || tries == kUploadTriesMax) return outcome;
  }
}

std::string fallback_tag(const Digest& subject) {
  return "sha256-" + subject.hex();
}

bool contains(const Index& index, const Digest& digest) {
  return std::any_of(index.manifests.begin(), index.manifests.end(),
                     [&](const Descriptor& one) { return one.digest == digest; });
}

// The target of the Link header that leads to the next page; "" on the last one (RFC 8288).
std::string next_page(const HttpResponse& response) {
  for (const std::string& link : response.header_values("link")) {
    const std::size_t end = link.find('>');
    if (!link.starts_with('<') || end == std::string::npos) continue;
    const std::string parameters = link.substr(end + 1);
    if (parameters.find("rel=\"next\"") != std::string::npos ||
        parameters.find("rel=next") != std::string::npos) {
      return link.substr(1, end - 1);
    }
  }
  return {};
}

// The media type that header and body agree on; it must be one of a manifest or an index.
Result<std::string> manifest_type(const HttpResponse& response, const std::string& what) {
  std::string type = bare_media_type(response.header("content-type"));
  IMSY_TRY_ASSIGN(const Json json, parse_json(as_text(response.body), what));
  IMSY_TRY(check_object(json, {"mediaType"}, what));
  IMSY_TRY_ASSIGN(const std::string in_body, string_field(json, "mediaType", what));
  if (type.empty()) type = in_body;
  if (!is_manifest(type) && !is_index(type)) {
    return Error(Errc::kInvalid, what + ": the registry sent no image manifest or index");
  }
  if (!in_body.empty() && in_body != type) {
    return Error(Errc::kInvalid,
                 what + ": announced as " + type + ", but it says that it is " + "something else");
  }
  return type;
}

class RegistryClient : public Registry {
 public:
  RegistryClient(std::shared_ptr<Caller> caller, std::shared_ptr<Caller> mounter, std::string name,
                 std::chrono::milliseconds rate_window)
      : caller_(std::move(caller)),
        mounter_(std::move(mounter)),
        name_(std::move(name)),
        rate_window_(rate_window) {}

  std::string name() const override { return name_; }
  std::string identity() const override { return caller_->identity(); }
  std::string repository_at(std::string_view origin) const override {
    return origin == caller_->root().origin() ? caller_->repository() : std::string();
  }

  Result<Document> get_manifest(const std::string& tag_or_digest) override;
  Result<std::unique_ptr<ByteReader>> open_blob(const Descriptor& descriptor) override {
    const std::string url = caller_->url("blobs/" + descriptor.digest.to_string());
    return open_blob_stream(caller_, url, name_, descriptor);
  }
  Result<Bytes> read_part(const Descriptor& blob, std::uint64_t offset,
                          std::uint64_t length) override;
  Result<bool> has_blob(const Digest& digest, std::uint64_t size) override {
    return find_blob(caller_, name_, digest, size);
  }
  Result<std::unique_ptr<BlobWriter>> create_blob() override {
    return open_blob_upload(caller_, name_);
  }
  Result<Arrival> put_blob(ByteSpan data, const Digest& digest) override;
  Result<Arrival> copy_blob(ImageSource& from, const Descriptor& blob) override;
  unsigned parallel_writes() const override { return kParallelWrites; }
  Status put_manifest(const Document& document, const std::string& tag) override;
  Status add_referrer(const Digest& subject, const Descriptor& referrer) override;
  Result<std::vector<Descriptor>> get_referrers(const Digest& subject) override;
  Cancel read_range(const Digest& blob, std::uint64_t blob_size, std::uint64_t offset,
                    std::uint64_t length, Purpose purpose, RangeDone done) override;
  Cancel stream_range(const Digest& blob, std::uint64_t blob_size, std::uint64_t offset,
                      std::uint64_t length, Purpose purpose, RangeEvents events) override;
  std::string host() const override { return caller_->root().origin(); }
  HostHealth::Cost cost() const override { return caller_->http().health(host())->cost(); }
  std::chrono::steady_clock::time_point usable_at() const override {
    return caller_->http().health(host())->usable_at();
  }
  void distrust(const Digest& blob) override {
    caller_->forget_target(caller_->url("blobs/" + blob.to_string()));
  }

 private:
  Result<std::optional<Index>> ask_referrers(const Digest& subject);
  Result<Index> read_fallback(const Digest& subject);
  std::string name_of(const Digest& blob) const;
  Result<HttpRequest> range_request(const Digest& blob, const ContentRange& wanted);
  template <typename Done>
  Cancel fail_range(Done done, Error error);

  const std::shared_ptr<Caller> caller_;
  const std::shared_ptr<Caller> mounter_;  // of blobs of other repositories
  const std::string name_;
  const std::chrono::milliseconds rate_window_;
  std::atomic<bool> keeps_referrers_{false};  // it has the referrers API
};

Result<Document> RegistryClient::get_manifest(const std::string& tag_or_digest) {
  const auto wanted = Digest::parse(tag_or_digest);
  if (!wanted && !is_tag(tag_or_digest)) {
    return Error(Errc::kInvalid, name_ + ": neither a tag nor a digest was asked for");
  }
  const std::string what = name_ + ": manifest " + tag_or_digest;
  HttpRequest request;
  request.url = caller_->url("manifests/" + tag_or_digest);
  request.headers.emplace_back("Accept", accepted_manifests());
  request.body_limit = kDocumentLimit;
  auto response = caller_->perform(std::move(request));
  if (!response) return response.error().with_context(what);
  if (response->status != 200) return status_error(*response, what);
  Document document;
  document.bytes = as_text(response->body);
  document.digest = sha256(document.bytes);
  if (wanted && document.digest != *wanted) {
    return Error(Errc::kCorrupt, what + ": the registry sent other content, with digest " +
                                     document.digest.to_string());
  }
  IMSY_TRY_ASSIGN(document.media_type, manifest_type(*response, what));
  return document;
}

Result<Arrival> RegistryClient::put_blob(ByteSpan data, const Digest& digest) {
  return begin_again([&]() -> Result<Arrival> {
    IMSY_TRY_ASSIGN(const auto blob, create_blob());
    IMSY_TRY(blob->write(data));
    return blob->commit(digest);
  });
}

Result<Arrival> RegistryClient::copy_blob(ImageSource& from, const Descriptor& blob) {
  IMSY_TRY_ASSIGN(const bool there, has_blob(blob.digest, blob.size));
  if (there) return Arrival::kWasThere;
  std::unique_ptr<BlobWriter> writer;
  if (const std::string repository = from.repository_at(caller_->root().origin());
      !repository.empty() && repository != caller_->repository()) {
    writer = mount_blob(caller_, *mounter_, name_, blob.digest, repository);
    if (writer == nullptr) return Arrival::kMounted;
  }
  return begin_again([&]() -> Result<Arrival> {
    IMSY_TRY_ASSIGN(const auto reader, from.open_blob(blob));
    if (writer == nullptr) {
      IMSY_TRY_ASSIGN(writer, create_blob());
    }
    const auto used = std::move(writer);
    return write_blob(*reader, *used, blob.digest);
  });
}

Status RegistryClient::put_manifest(const Document& document, const std::string& tag) {
  if (!tag.empty() && !is_tag(tag)) return Error(Errc::kInvalid, name_ + ": no valid tag to put");
  const std::string object = tag.empty() ? document.digest.to_string() : tag;
  const std::string what = name_ + ": manifest " + object;
  HttpRequest request;
  request.method = "PUT";
  request.url = caller_->url("manifests/" + object);
  request.headers.emplace_back("Content-Type", document.media_type);
  request.body = body_of(document.bytes);
  auto response = caller_->perform(std::move(request));
  if (!response) return response.error().with_context(what);
  if (response->status != 201) return status_error(*response, what);
  const std::string stored = response->header("docker-content-digest");
  if (!stored.empty() && stored != document.digest.to_string()) {
    return Error(Errc::kCorrupt, what + ": the registry stored other content than was sent");
  }
  if (!response->header("oci-subject").empty()) keeps_referrers_ = true;
  return {};
}

// The index of the referrers tag schema; an empty one when there is none yet.
Result<Index> RegistryClient::read_fallback(const Digest& subject) {
  auto document = get_manifest(fallback_tag(subject));
  if (document) return parse_index(*document);
  if (document.error().code() != Errc::kNotFound) return document.error();
  Index empty;
  empty.media_type = media_type::kOciIndex;
  return empty;
}

// Another client may change the index between our reading and our writing it, and the registry has
// no way to prevent that: so look whether the change has lasted.
Status RegistryClient::add_referrer(const Digest& subject, const Descriptor& referrer) {
  if (keeps_referrers_) return {};
  IMSY_TRY_ASSIGN(const auto by_api, ask_referrers(subject));
  if (by_api) return {};
  for (unsigned tries = 0; tries < kReferrerTriesMax; ++tries) {
    IMSY_TRY_ASSIGN(Index index, read_fallback(subject));
    if (contains(index, referrer.digest)) return {};
    index.manifests.push_back(referrer);
    const auto document = Document::make(index.media_type, index.to_json());
    IMSY_TRY(put_manifest(document, fallback_tag(subject)));
  }
  IMSY_TRY_ASSIGN(const Index index, read_fallback(subject));
  if (contains(index, referrer.digest)) return {};
  return Error(Errc::kUnavailable, name_ + ": the list of referrers " + fallback_tag(subject) +
                                       " is being changed by others all the time");
}

// Nothing when the registry does not have the referrers API.
Result<std::optional<Index>> RegistryClient::ask_referrers(const Digest& subject) {
  const std::string what = name_ + ": referrers of " + subject.to_string();
  Index all;
  all.media_type = media_type::kOciIndex;
  IMSY_TRY_ASSIGN(Url page, parse_url(caller_->url("referrers/" + subject.to_string())));
  for (unsigned pages = 0; pages < kReferrerPagesMax; ++pages) {
    HttpRequest request;
    request.url = page.text;
    request.headers.emplace_back("Accept", std::string(media_type::kOciIndex));
    request.body_limit = kDocumentLimit;
    auto response = caller_->perform(std::move(request));
    if (!response) return response.error().with_context(what);
    const std::string type = bare_media_type(response->header("content-type"));
    const bool unknown = response->status == 404 || response->status == 405 ||
                         response->status == 400 || response->status == 501 ||
                         (response->status == 200 && type != media_type::kOciIndex);
    if (unknown && pages == 0) return std::optional<Index>();
    if (response->status != 200) return status_error(*response, what);
    Document document;
    document.media_type = type;
    document.bytes = as_text(response->body);
    auto index = parse_index(document);
    if (!index) return index.error().with_context(what);
    std::move(index->manifests.begin(), index->manifests.end(), std::back_inserter(all.manifests));
    const std::string next = next_page(*response);
    if (next.empty()) return std::optional(std::move(all));
    auto resolved = resolve_url(page, next);
    if (!resolved || resolved->origin() != page.origin()) {
      return Error(Errc::kInvalid, what + ": the next page lies elsewhere");
    }
    page = std::move(*resolved);
  }
  return Error(Errc::kInvalid,
               what + ": more than " + std::to_string(kReferrerPagesMax) + " pages");
}

Result<std::vector<Descriptor>> RegistryClient::get_referrers(const Digest& subject) {
  IMSY_TRY_ASSIGN(auto by_api, ask_referrers(subject));
  if (by_api) return std::move(by_api->manifests);
  IMSY_TRY_ASSIGN(Index by_tag, read_fallback(subject));
  return std::move(by_tag.manifests);
}

Result<Bytes> RegistryClient::read_part(const Descriptor& blob, std::uint64_t offset,
                                        std::uint64_t length) {
  auto answer = std::make_shared<std::promise<Result<Bytes>>>();
  auto future = answer->get_future();
  read_range(blob.digest, blob.size, offset, length, Purpose::kOther,
             [answer](Result<Bytes> bytes) { answer->set_value(std::move(bytes)); });
  return future.get();
}

std::string RegistryClient::name_of(const Digest& blob) const {
  return name_ + ": blob " + blob.to_string();
}

// A request for a range of the blob, which only the right answer gets through.
Result<HttpRequest> RegistryClient::range_request(const Digest& blob, const ContentRange& wanted) {
  const std::string what = name_of(blob);
  if (wanted.length == 0 || wanted.offset > wanted.total ||
      wanted.length > wanted.total - wanted.offset) {
    return Error(Errc::kInvalid, what + ": a range outside of the blob was asked for");
  }
  HttpRequest request;
  request.url = caller_->url("blobs/" + blob.to_string());
  if (wanted.length != wanted.total) {
    request.headers.emplace_back("Range", wanted.to_range_header());
  }
  request.body_limit = wanted.length;
  request.idle_timeout = rate_window_;
  request.min_rate = kMinRate;
  request.on_headers = [what, wanted](const HttpResponse& response) -> Status {
    IMSY_TRY(check_range(response, wanted, what));
    return check_announced(response, wanted.length, what);
  };
  return request;
}

// Fails later, on the HTTP client's thread.
template <typename Done>
Registry::Cancel RegistryClient::fail_range(Done done, Error error) {
  caller_->http().call_after(std::chrono::milliseconds(0),
                             [done = std::move(done), error] { done(error); });
  return [] {};
}

Registry::Cancel RegistryClient::read_range(const Digest& blob, std::uint64_t blob_size,
                                            std::uint64_t offset, std::uint64_t length,
                                            Purpose purpose, RangeDone done) {
  auto request = range_request(blob, {offset, length, blob_size});
  if (!request) return fail_range(std::move(done), request.error());
  CallPolicy policy;
  // Whether it has an image, and may give it, only the registry itself can say: not the storage
  // that it has led to a while ago.
  policy.remember_target = purpose != Purpose::kLocate;
  policy.purpose = purpose;
  policy.body_size = length;
  const auto call =
      caller_->send(std::move(*request), policy,
                    [what = name_of(blob), done = std::move(done)](Result<HttpResponse> response) {
                      if (!response) return done(response.error().with_context(what));
                      if (response->status / 100 != 2) return done(status_error(*response, what));
                      done(std::move(response->body));
                    });
  return [caller = caller_, call] { caller->cancel(call); };
}

Registry::Cancel RegistryClient::stream_range(const Digest& blob, std::uint64_t blob_size,
                                              std::uint64_t offset, std::uint64_t length,
                                              Purpose purpose, RangeEvents events) {
  auto request = range_request(blob, {offset, length, blob_size});
  if (!request) return fail_range(std::move(events.done), request.error());
  const auto came = std::make_shared<std::uint64_t>(0);
  const std::string url = request->url;
  request->on_body = [came, on_bytes = std::move(events.on_bytes)](ByteSpan piece) -> Status {
    *came += piece.size();
    on_bytes(piece);
    return {};
  };
  CallPolicy policy;
  policy.remember_target = true;
  policy.purpose = purpose;
  const auto call =
      caller_->send(std::move(*request), policy,
                    [caller = caller_, url, what = name_of(blob), came, length,
                     done = std::move(events.done)](const Result<HttpResponse>& response) {
                      if (!response) return done(response.error().with_context(what));
                      if (response->status / 100 != 2) return done(status_error(*response, what));
                      if (*came == length) return done({});
                      caller->forget_target(url);
                      done(Error(Errc::kUnavailable, what + ": the answer came incomplete"));
                    });
  return [caller = caller_, call] { caller->cancel(call); };
}

}  // namespace

Result<std::shared_ptr<Registry>> Registry::open(HttpClient& http, RegistryOptions options) {
  const auto root = parse_url(options.host.root);
  if (!root) return root.error().with_context("the address of a registry");
  if (options.host.root.find('?') != std::string::npos || options.host.root.ends_with('/')) {
    return Error(Errc::kInvalid, "the address of a registry, " + root->shown() +
                                     ", must have no query and not end with a slash");
  }
  if (!is_repository(options.repository)) {
    return Error(Errc::kInvalid, "no valid name of a repository");
  }
  const std::string name = options.host.name() + "/" + options.repository;
  auto mounter = Caller::create(http, *root, options);
  auto caller = Caller::create(http, *root, options);
  return std::shared_ptr<Registry>(std::make_shared<RegistryClient>(
      std::move(caller), std::move(mounter), name, options.rate_window));
}

}  // namespace imsy::oci
