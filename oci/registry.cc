#include "oci/registry.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <set>

#include "oci/blob_stream.h"
#include "oci/blob_upload.h"
#include "oci/call.h"
#include "oci/content_range.h"

namespace imsy::oci {
namespace {

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

std::shared_ptr<const Bytes> body_of(ByteSpan data) {
  return std::make_shared<const Bytes>(data.begin(), data.end());
}

class RegistryClient : public Registry {
 public:
  RegistryClient(std::shared_ptr<Caller> caller, std::string name)
      : caller_(std::move(caller)), name_(std::move(name)) {}

  std::string name() const override { return name_; }
  bool used_credential() const override { return caller_->used_credential(); }

  Result<Document> get_manifest(const std::string& tag_or_digest) override {
    const std::string what = name_ + ": manifest " + tag_or_digest;
    HttpRequest request;
    request.url = caller_->url("manifests/" + tag_or_digest);
    request.headers.emplace_back("Accept", accepted_manifests());
    request.body_limit = kDocumentLimit;
    auto response = caller_->perform(std::move(request));
    if (!response) return response.error().with_context(what);
    if (response->status != 200) return status_error(*response, what);
    Document document;
    document.media_type = bare_media_type(response->header("content-type"));
    document.bytes = as_text(response->body);
    document.digest = sha256(document.bytes);
    if (tag_or_digest.starts_with("sha256:") && document.digest.to_string() != tag_or_digest) {
      return Error(Errc::kCorrupt, what + ": the registry sent " + document.digest.to_string());
    }
    if (!is_manifest(document.media_type) && !is_index(document.media_type)) {
      return Error(Errc::kInvalid, what + ": the registry sent no manifest but \"" +
                                       document.media_type.substr(0, 80) + "\"");
    }
    return document;
  }

  Result<std::unique_ptr<ByteReader>> open_blob(const Descriptor& descriptor) override {
    return open_blob_stream(caller_, name_, descriptor);
  }

  Result<bool> has_blob(const Digest& digest, std::uint64_t size) override {
    HttpRequest request;
    request.method = "HEAD";
    request.url = caller_->url("blobs/" + digest.to_string());
    auto response = caller_->perform(std::move(request));
    const std::string what = name_ + ": blob " + digest.to_string();
    if (!response) return response.error().with_context(what);
    if (response->status == 404) return false;
    if (response->status != 200) return status_error(*response, what);
    const std::string length = response->header("content-length");
    return length.empty() || length == std::to_string(size);
  }

  Result<std::unique_ptr<BlobWriter>> create_blob() override {
    return open_blob_upload(caller_, name_);
  }

  Status put_blob(ByteSpan data, const Digest& digest) override {
    IMSY_TRY_ASSIGN(const bool there, has_blob(digest, data.size()));
    if (there) return {};
    IMSY_TRY_ASSIGN(const auto blob, create_blob());
    IMSY_TRY(blob->write(data));
    return blob->commit(digest);
  }

  Status put_manifest(const Document& document, const std::string& tag) override {
    const std::string object = tag.empty() ? document.digest.to_string() : tag;
    const std::string what = name_ + ": manifest " + object;
    HttpRequest request;
    request.method = "PUT";
    request.url = caller_->url("manifests/" + object);
    request.headers.emplace_back("Content-Type", document.media_type);
    request.body = body_of(as_bytes(document.bytes));
    auto response = caller_->perform(std::move(request));
    if (!response) return response.error().with_context(what);
    if (response->status != 201) return status_error(*response, what);
    const std::string stored = response->header("docker-content-digest");
    if (!stored.empty() && stored != document.digest.to_string()) {
      return Error(Errc::kCorrupt, what + ": the registry stored other bytes than were sent");
    }
    if (!response->header("oci-subject").empty()) keeps_referrers_ = true;
    return {};
  }

  // A registry that keeps referrers says so when the referrer's manifest is put.
  Status add_referrer(const Digest& subject, const Descriptor& referrer) override {
    if (keeps_referrers_) return {};
    IMSY_TRY_ASSIGN(Index index, read_fallback_index(subject));
    for (const auto& known : index.manifests) {
      if (known.digest == referrer.digest) return {};
    }
    index.manifests.push_back(referrer);
    Document document;
    document.media_type = media_type::kOciIndex;
    document.bytes = index.to_json().dump();
    document.digest = sha256(document.bytes);
    return put_manifest(document, fallback_tag(subject));
  }

  Result<std::vector<Descriptor>> get_referrers(const Digest& subject) override {
    const std::string what = name_ + ": referrers of " + subject.to_string();
    HttpRequest request;
    request.url = caller_->url("referrers/" + subject.to_string());
    request.headers.emplace_back("Accept", std::string(media_type::kOciIndex));
    request.body_limit = kDocumentLimit;
    auto response = caller_->perform(std::move(request));
    if (!response) return response.error().with_context(what);
    if (response->status == 200 &&
        bare_media_type(response->header("content-type")) == media_type::kOciIndex) {
      Document document;
      document.media_type = media_type::kOciIndex;
      document.bytes = as_text(response->body);
      IMSY_TRY_ASSIGN(Index index, parse_index(document));
      return std::move(index.manifests);
    }
    if (response->status != 200 && response->status != 404) return status_error(*response, what);
    IMSY_TRY_ASSIGN(Index index, read_fallback_index(subject));
    return std::move(index.manifests);
  }

  void read_range(const Digest& blob, std::uint64_t blob_size, std::uint64_t offset,
                  std::uint64_t length, RangeDone done) override {
    const std::string what = name_ + ": blob " + blob.to_string();
    if (length == 0 || offset > blob_size || length > blob_size - offset) {
      return done(Error(Errc::kInvalid, what + ": a range outside of the blob was asked for"));
    }
    const ContentRange wanted{offset, length, blob_size};
    HttpRequest request;
    request.url = caller_->url("blobs/" + blob.to_string());
    request.headers.emplace_back("Range", wanted.to_range_header());
    request.body_limit = length;
    request.on_headers = [what, wanted](const HttpResponse& response) {
      return check_range(response, wanted, what);
    };
    CallPolicy policy;
    policy.remember_target = true;
    caller_->send(std::move(request), policy,
                  [what, length, done = std::move(done)](Result<HttpResponse> response) {
                    if (!response) return done(response.error().with_context(what));
                    if (response->status / 100 != 2) return done(status_error(*response, what));
                    if (response->body.size() != length) {
                      return done(Error(Errc::kUnavailable, what + ": a range came incomplete"));
                    }
                    done(std::move(response->body));
                  });
  }

 private:
  static std::string fallback_tag(const Digest& subject) { return "sha256-" + subject.hex(); }

  // The index of the referrers tag schema; an empty one when there is none yet.
  Result<Index> read_fallback_index(const Digest& subject) {
    auto document = get_manifest(fallback_tag(subject));
    if (document) return parse_index(*document);
    if (document.error().code() != Errc::kNotFound) return document.error();
    Index empty;
    empty.media_type = media_type::kOciIndex;
    return empty;
  }

  std::shared_ptr<Caller> caller_;
  const std::string name_;
  std::atomic<bool> keeps_referrers_{false};
};

}  // namespace

Result<std::shared_ptr<Registry>> Registry::open(HttpClient& http, RegistryOptions options) {
  auto endpoint = parse_url(options.endpoint);
  if (!endpoint) return endpoint.error().with_context("registry endpoint");
  if (endpoint->path != "/") {
    return Error(Errc::kInvalid, "registry endpoint " + endpoint->shown() + " must have no path");
  }
  endpoint->text = endpoint->scheme + "://" + endpoint->host + ":" + endpoint->port;
  const std::string name = options.credential_host + "/" + options.repository;
  auto caller = std::make_shared<Caller>(http, std::move(*endpoint), options);
  return std::shared_ptr<Registry>(std::make_shared<RegistryClient>(std::move(caller), name));
}

std::string Registry::endpoint_for(std::string_view host, bool plain_http) {
  if (host == "docker.io" || host == "index.docker.io") host = "registry-1.docker.io";
  return (plain_http ? "http://" : "https://") + std::string(host);
}

}  // namespace imsy::oci
