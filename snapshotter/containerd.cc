#include "snapshotter/containerd.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <functional>

#include "proto/containerd/content.grpc.pb.h"
#include "proto/containerd/images.grpc.pb.h"
#include "proto/containerd/version.grpc.pb.h"
#include "proto/deadline.h"
#include "snapshotter/containerd_channel.h"

namespace imsy::snapshotter {
namespace {

namespace content = containerd::services::content::v1;
namespace images = containerd::services::images::v1;
namespace versions = containerd::services::version::v1;

constexpr std::chrono::seconds kCallLimit{2};
// An image with more manifests, or an index with more platforms, than anybody makes.
constexpr std::size_t kManifestsMax = 16;
constexpr int kPlatformsMax = 32;

Error error_of(const grpc::Status& status, const char* call) {
  const std::string message = std::string("containerd: ") + call + ": " + status.error_message();
  switch (status.error_code()) {
    case grpc::StatusCode::NOT_FOUND: return {Errc::kNotFound, message};
    case grpc::StatusCode::INVALID_ARGUMENT: return {Errc::kInvalid, message};
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return {Errc::kTimeout, std::string("containerd: ") + call +
                                  ": no answer in time; is it running at containerd_address?"};
    default: return {Errc::kUnavailable, message};
  }
}

void prepare_call(grpc::ClientContext& context, const std::string& name_space,
                  Containerd::Deadline deadline) {
  const auto left = deadline - std::chrono::steady_clock::now();
  const auto limit = std::min<std::chrono::steady_clock::duration>(left, kCallLimit);
  context.set_deadline(deadline_after(limit));
  // A containerd that was away when it was asked last may be back.
  context.set_wait_for_ready(true);
  context.AddMetadata("containerd-namespace", name_space);
}

class Client final : public Containerd {
 public:
  explicit Client(const std::string& address) {
    const auto channel = channel_to_containerd(address);
    content_ = content::Content::NewStub(channel);
    images_ = images::Images::NewStub(channel);
    version_ = versions::Version::NewStub(channel);
  }

  Result<Labels> content_labels(const std::string& name_space, const Digest& digest,
                                Deadline deadline) override {
    grpc::ClientContext context;
    prepare_call(context, name_space, deadline);
    content::InfoRequest request;
    request.set_digest(digest.to_string());
    content::InfoResponse response;
    const grpc::Status status = content_->Info(&context, request, &response);
    if (!status.ok()) return error_of(status, "content info");
    const auto& labels = response.info().labels();
    return Labels(labels.begin(), labels.end());
  }

  Result<std::string> read_content(const std::string& name_space, const Digest& digest,
                                   std::uint64_t limit, Deadline deadline) override {
    grpc::ClientContext context;
    prepare_call(context, name_space, deadline);
    content::ReadContentRequest request;
    request.set_digest(digest.to_string());
    const auto stream = content_->Read(&context, request);
    std::string data;
    content::ReadContentResponse piece;
    while (stream->Read(&piece)) {
      if (data.size() + piece.data().size() > limit) {
        context.TryCancel();
        return Error(Errc::kInvalid, "containerd: " + digest.to_string() + " is too large");
      }
      data += piece.data();
    }
    const grpc::Status status = stream->Finish();
    if (!status.ok()) return error_of(status, "content read");
    if (sha256(data) != digest) {
      return Error(Errc::kCorrupt, "containerd: " + digest.to_string() + " has another digest");
    }
    return data;
  }

  Result<std::vector<std::string>> image_names(const std::string& name_space, const Digest& config,
                                               Deadline deadline) override {
    const std::string by_config =
        "labels.\"containerd.io/gc.ref.content.config\"==" + config.to_string();
    IMSY_TRY_ASSIGN(auto targets, find_content(name_space, {by_config}, deadline));
    std::vector<std::string> by_manifest;
    for (const std::string& manifest : targets) {
      for (int i = 0; i < kPlatformsMax; ++i) {
        by_manifest.push_back("labels.\"containerd.io/gc.ref.content.m." + std::to_string(i) +
                              "\"==" + manifest);
      }
    }
    if (!by_manifest.empty()) {
      IMSY_TRY_ASSIGN(const auto indexes, find_content(name_space, by_manifest, deadline));
      targets.insert(targets.end(), indexes.begin(), indexes.end());
    }
    if (targets.empty()) return std::vector<std::string>();
    return names_of(name_space, targets, deadline);
  }

  Result<std::vector<Labels>> manifests_with_layer(const std::string& name_space,
                                                   const Digest& blob, unsigned index,
                                                   Deadline deadline) override {
    const std::string filter = "labels.\"containerd.io/gc.ref.content.l." + std::to_string(index) +
                               "\"==" + blob.to_string();
    std::vector<Labels> found;
    IMSY_TRY(each_content(name_space, {filter}, deadline, [&](const content::Info& info) {
      const auto& labels = info.labels();
      if (found.size() < kManifestsMax) found.emplace_back(labels.begin(), labels.end());
    }));
    return found;
  }

  Result<std::string> version(Deadline deadline) override {
    grpc::ClientContext context;
    prepare_call(context, "default", deadline);
    versions::VersionResponse response;
    const grpc::Status status = version_->Version(&context, google::protobuf::Empty(), &response);
    if (!status.ok()) return error_of(status, "version");
    return response.version();
  }

 private:
  // Digests of blobs whose labels match one of the filters.
  Result<std::vector<std::string>> find_content(const std::string& name_space,
                                                const std::vector<std::string>& filters,
                                                Deadline deadline) {
    std::vector<std::string> digests;
    IMSY_TRY(each_content(name_space, filters, deadline, [&](const content::Info& info) {
      // The digest becomes part of a filter: only what is one may.
      if (digests.size() < kManifestsMax && Digest::parse(info.digest())) {
        digests.push_back(info.digest());
      }
    }));
    return digests;
  }

  Status each_content(const std::string& name_space, const std::vector<std::string>& filters,
                      Deadline deadline, const std::function<void(const content::Info&)>& visit) {
    grpc::ClientContext context;
    prepare_call(context, name_space, deadline);
    content::ListContentRequest request;
    for (const std::string& filter : filters) request.add_filters(filter);
    const auto stream = content_->List(&context, request);
    content::ListContentResponse piece;
    while (stream->Read(&piece)) {
      for (const auto& info : piece.info()) visit(info);
    }
    const grpc::Status status = stream->Finish();
    if (!status.ok()) return error_of(status, "content list");
    return {};
  }

  Result<std::vector<std::string>> names_of(const std::string& name_space,
                                            const std::vector<std::string>& targets,
                                            Deadline deadline) {
    grpc::ClientContext context;
    prepare_call(context, name_space, deadline);
    images::ListImagesRequest request;
    for (const std::string& target : targets) request.add_filters("target.digest==" + target);
    images::ListImagesResponse response;
    const grpc::Status status = images_->List(&context, request, &response);
    if (!status.ok()) return error_of(status, "images list");
    std::vector<std::string> names;
    for (const auto& image : response.images()) names.push_back(image.name());
    return names;
  }

  std::unique_ptr<content::Content::Stub> content_;
  std::unique_ptr<images::Images::Stub> images_;
  std::unique_ptr<versions::Version::Stub> version_;
};

// Stands for a containerd that is not to be asked.
class Nobody final : public Containerd {
 public:
  Result<Labels> content_labels(const std::string&, const Digest&, Deadline) override {
    return refusal();
  }
  Result<std::string> read_content(const std::string&, const Digest&, std::uint64_t,
                                   Deadline) override {
    return refusal();
  }
  Result<std::vector<std::string>> image_names(const std::string&, const Digest&,
                                               Deadline) override {
    return refusal();
  }
  Result<std::vector<Labels>> manifests_with_layer(const std::string&, const Digest&, unsigned,
                                                   Deadline) override {
    return refusal();
  }
  Result<std::string> version(Deadline) override { return refusal(); }

 private:
  static Error refusal() {
    return Error(Errc::kUnavailable, "containerd_address is empty, so containerd is not asked");
  }
};

}  // namespace

std::unique_ptr<Containerd> connect_containerd(const std::string& address) {
  if (address.empty()) return std::make_unique<Nobody>();
  return std::make_unique<Client>(address);
}

}  // namespace imsy::snapshotter
