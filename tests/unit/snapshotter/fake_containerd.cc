#include "tests/unit/snapshotter/fake_containerd.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <set>
#include <vector>

#include "common/mutex.h"
#include "proto/containerd/content.grpc.pb.h"
#include "proto/containerd/images.grpc.pb.h"

namespace imsy::test {
namespace {

namespace content = containerd::services::content::v1;
namespace images = containerd::services::images::v1;

// Small, so that readers meet more than one message.
constexpr std::size_t kPieceSize = 100;

std::string namespace_of(const grpc::ServerContext& context) {
  const auto& headers = context.client_metadata();
  const auto header = headers.find("containerd-namespace");
  if (header == headers.end()) return "";
  return {header->second.data(), header->second.size()};
}

struct Blob {
  std::string bytes;
  std::map<std::string, std::string> labels;
};

bool matches(const Blob& blob, const std::string& filter) {
  return std::ranges::any_of(blob.labels, [&](const auto& label) {
    return filter == "labels.\"" + label.first + "\"==" + label.second;
  });
}

}  // namespace

struct FakeContainerd::Impl final : content::Content::Service {
  struct ImagesService final : images::Images::Service {
    explicit ImagesService(Impl& its_owner) : owner(its_owner) {}
    grpc::Status List(grpc::ServerContext* context, const images::ListImagesRequest* request,
                      images::ListImagesResponse* response) override {
      MutexLock lock(owner.mu);
      ++owner.calls;
      for (const auto& [name, target] : owner.images[namespace_of(*context)]) {
        const auto& filters = request->filters();
        const std::string wanted = "target.digest==" + target;
        if (!filters.empty() && std::ranges::find(filters, wanted) == filters.end()) continue;
        auto& image = *response->add_images();
        image.set_name(name);
        image.mutable_target()->set_digest(target);
      }
      return grpc::Status::OK;
    }
    Impl& owner;
  };

  struct CriService final : runtime::v1::ImageService::Service {
    grpc::Status PullImage(grpc::ServerContext*, const runtime::v1::PullImageRequest* request,
                           runtime::v1::PullImageResponse* response) override {
      OnPull pull;
      {
        MutexLock lock(mu);
        pull = on_pull;
      }
      if (!pull) return {grpc::StatusCode::UNIMPLEMENTED, "no image service"};
      const auto id = pull(*request);
      if (!id) return {grpc::StatusCode::UNKNOWN, id.error().message()};
      response->set_image_ref(*id);
      return grpc::Status::OK;
    }
    grpc::Status RemoveImage(grpc::ServerContext*, const runtime::v1::RemoveImageRequest*,
                             runtime::v1::RemoveImageResponse*) override {
      return grpc::Status::OK;
    }
    Mutex mu;
    OnPull on_pull IMSY_GUARDED_BY(mu);
  };

  grpc::Status Info(grpc::ServerContext* context, const content::InfoRequest* request,
                    content::InfoResponse* response) override {
    MutexLock lock(mu);
    ++calls;
    const auto& known = blobs[namespace_of(*context)];
    const auto found = known.find(request->digest());
    if (found == known.end()) return missing(request->digest());
    fill(*response->mutable_info(), found->first, found->second);
    return grpc::Status::OK;
  }

  grpc::Status List(grpc::ServerContext* context, const content::ListContentRequest* request,
                    grpc::ServerWriter<content::ListContentResponse>* writer) override {
    MutexLock lock(mu);
    ++calls;
    for (const auto& [digest, blob] : blobs[namespace_of(*context)]) {
      const auto fits = [&, &kept = blob](const std::string& f) { return matches(kept, f); };
      if (!request->filters().empty() && std::ranges::none_of(request->filters(), fits)) continue;
      content::ListContentResponse response;
      fill(*response.add_info(), digest, blob);
      writer->Write(response);
    }
    return grpc::Status::OK;
  }

  grpc::Status Read(grpc::ServerContext* context, const content::ReadContentRequest* request,
                    grpc::ServerWriter<content::ReadContentResponse>* writer) override {
    MutexLock lock(mu);
    ++calls;
    const auto& known = blobs[namespace_of(*context)];
    const auto found = known.find(request->digest());
    if (found == known.end()) return missing(request->digest());
    const std::string& bytes = found->second.bytes;
    for (std::size_t at = 0; at < bytes.size(); at += kPieceSize) {
      content::ReadContentResponse response;
      response.set_offset(static_cast<std::int64_t>(at));
      response.set_data(bytes.substr(at, kPieceSize));
      if (!writer->Write(response)) break;
    }
    return grpc::Status::OK;
  }

  static grpc::Status missing(const std::string& digest) {
    return {grpc::StatusCode::NOT_FOUND, "content " + digest + ": not found"};
  }
  static void fill(content::Info& info, const std::string& digest, const Blob& blob) {
    info.set_digest(digest);
    info.set_size(static_cast<std::int64_t>(blob.bytes.size()));
    info.mutable_labels()->insert(blob.labels.begin(), blob.labels.end());
  }

  mutable Mutex mu;
  std::size_t calls = 0;
  std::map<std::string, std::map<std::string, Blob>> blobs;  // by namespace, digest
  std::map<std::string, std::vector<std::pair<std::string, std::string>>> images;  // name, target
  ImagesService images_service{*this};
  CriService cri_service;
  std::unique_ptr<grpc::Server> server;
};

FakeContainerd::FakeContainerd(const std::filesystem::path& socket)
    : impl_(std::make_unique<Impl>()) {
  grpc::ServerBuilder builder;
  builder.AddListeningPort("unix:" + socket.string(), grpc::InsecureServerCredentials());
  builder.RegisterService(impl_.get());
  builder.RegisterService(&impl_->images_service);
  builder.RegisterService(&impl_->cri_service);
  impl_->server = builder.BuildAndStart();
  if (impl_->server == nullptr) {
    std::cerr << "FakeContainerd: cannot listen at " << socket << "\n";
    std::abort();
  }
}

FakeContainerd::~FakeContainerd() {
  impl_->server->Shutdown(std::chrono::system_clock::now());
  impl_->server->Wait();
}

Digest FakeContainerd::add_blob(const std::string& name_space, const std::string& bytes,
                                std::map<std::string, std::string> labels) {
  MutexLock lock(impl_->mu);
  const Digest digest = sha256(bytes);
  impl_->blobs[name_space][digest.to_string()] = {bytes, std::move(labels)};
  return digest;
}

std::optional<std::string> FakeContainerd::blob(const std::string& name_space,
                                                const Digest& digest) const {
  MutexLock lock(impl_->mu);
  const auto& known = impl_->blobs[name_space];
  const auto found = known.find(digest.to_string());
  return found == known.end() ? std::nullopt : std::optional(found->second.bytes);
}

void FakeContainerd::set_blob(const std::string& name_space, const Digest& digest,
                              const std::string& bytes) {
  MutexLock lock(impl_->mu);
  impl_->blobs[name_space][digest.to_string()].bytes = bytes;
}

void FakeContainerd::add_image(const std::string& name_space, const std::string& name,
                               const Digest& target) {
  MutexLock lock(impl_->mu);
  impl_->images[name_space].emplace_back(name, target.to_string());
}

void FakeContainerd::on_pull(OnPull pull) {
  MutexLock lock(impl_->cri_service.mu);
  impl_->cri_service.on_pull = std::move(pull);
}

std::size_t FakeContainerd::calls() const {
  MutexLock lock(impl_->mu);
  return impl_->calls;
}

}  // namespace imsy::test
