#include "snapshotter/cri_proxy.h"

#include <optional>
#include <string_view>
#include <vector>

#include "common/log.h"
#include "snapshotter/containerd_channel.h"

namespace imsy::snapshotter {
namespace {

constexpr std::string_view kImageService = "/runtime.v1.ImageService/";
constexpr std::string_view kPullImage = "/runtime.v1.ImageService/PullImage";
constexpr std::string_view kRemoveImage = "/runtime.v1.ImageService/RemoveImage";

std::string bytes_of(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string bytes;
  if (!buffer.Dump(&slices).ok()) return bytes;
  bytes.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}

// What gRPC sends by itself, for each connection anew.
bool is_transports(std::string_view key) {
  return key.starts_with(':') || key.starts_with("grpc-") || key == "user-agent" ||
         key == "content-type" || key == "te" || key == "host";
}

template <typename Add>
void pass_on(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata, Add add) {
  for (const auto& [key, value] : metadata) {
    const std::string_view name(key.data(), key.size());
    if (!is_transports(name)) add(std::string(name), std::string(value.data(), value.size()));
  }
}

}  // namespace

// One call; deletes itself when gRPC is done with it. The calls of the image service have one
// message each way.
class CriProxy::Call final : public grpc::ServerGenericBidiReactor {
 public:
  Call(CriProxy& proxy, grpc::GenericCallbackServerContext& context)
      : proxy_(proxy), context_(context) {
    if (!context_.method().starts_with(kImageService)) {
      Finish({grpc::StatusCode::UNIMPLEMENTED, "unknown method " + context_.method()});
      return;
    }
    StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      Finish({grpc::StatusCode::INVALID_ARGUMENT, "the call came without its message"});
      return;
    }
    if (context_.method() == kPullImage) note_pull();
    pass_on(context_.client_metadata(), [this](const std::string& key, const std::string& value) {
      client_.AddMetadata(key, value);
    });
    client_.set_deadline(context_.raw_deadline());
    proxy_.stub_.UnaryCall(&client_, context_.method(), {}, &request_, &response_,
                           [this](const grpc::Status& status) { answered(status); });
  }
  void OnCancel() override { client_.TryCancel(); }
  void OnDone() override { delete this; }

 private:
  void note_pull() {
    auto request = parse_pull_request(bytes_of(request_));
    if (request) {
      pull_ = proxy_.logins_->pull_began(std::move(*request));
    } else {
      log::warn("the credential of a pull is not kept: {}", request.error().message());
    }
  }

  void answered(const grpc::Status& status) {
    if (pull_) {
      const std::string response = status.ok() ? bytes_of(response_) : std::string();
      proxy_.logins_->pull_ended(
          *pull_, status.ok() ? std::optional<std::string_view>(response) : std::nullopt);
    }
    if (status.ok() && context_.method() == kRemoveImage) {
      proxy_.logins_->image_removed(bytes_of(request_));
    }
    pass_on(client_.GetServerTrailingMetadata(),
            [this](const std::string& key, const std::string& value) {
              context_.AddTrailingMetadata(key, value);
            });
    if (!status.ok()) {
      Finish(explained(status));
      return;
    }
    pass_on(client_.GetServerInitialMetadata(),
            [this](const std::string& key, const std::string& value) {
              context_.AddInitialMetadata(key, value);
            });
    StartWriteAndFinish(&response_, {}, status);
  }

  grpc::Status explained(const grpc::Status& status) const {
    const bool away = status.error_code() == grpc::StatusCode::UNAVAILABLE &&
                      proxy_.channel_->GetState(false) != GRPC_CHANNEL_READY;
    if (!away) return status;
    return {grpc::StatusCode::UNAVAILABLE, "imsy-snapshotter does not reach containerd at " +
                                               proxy_.containerd_ + ": " + status.error_message()};
  }

  CriProxy& proxy_;
  grpc::GenericCallbackServerContext& context_;
  grpc::ClientContext client_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer response_;
  std::optional<CriLogins::Pull> pull_;
};

CriProxy::CriProxy(std::string containerd, std::shared_ptr<CriLogins> logins)
    : containerd_(std::move(containerd)),
      logins_(std::move(logins)),
      channel_(channel_to_containerd(containerd_)),
      stub_(channel_) {}

grpc::ServerGenericBidiReactor* CriProxy::CreateReactor(
    grpc::GenericCallbackServerContext* context) {
  return new Call(*this, *context);
}

}  // namespace imsy::snapshotter
