#include "snapshotter/cri_proxy.h"

#include <gmock/gmock.h>
#include <grpc/grpc.h>
#include <gtest/gtest.h>

#include <future>
#include <latch>

#include "proto/containerd/content.grpc.pb.h"
#include "proto/cri/images.grpc.pb.h"
#include "snapshotter/server.h"
#include "snapshotter/socket.h"
#include "tests/unit/snapshotter/temporary_directory.h"

namespace imsy::snapshotter {
namespace {

using ::testing::HasSubstr;
using Code = grpc::StatusCode;
namespace cri = runtime::v1;

// containerd's side of the image service.
class FakeImageService final : public cri::ImageService::Service {
 public:
  grpc::Status PullImage(grpc::ServerContext* context, const cri::PullImageRequest* request,
                         cri::PullImageResponse* response) override {
    last = request->SerializeAsString();
    deadline = context->deadline();
    for (const auto& [key, value] : context->client_metadata()) {
      metadata[std::string(key.data(), key.size())] = std::string(value.data(), value.size());
    }
    context->AddInitialMetadata("x-initial", "first");
    context->AddTrailingMetadata("x-trailing", "last");
    if (during) during(*context);
    if (!answer.ok()) return answer;
    response->set_image_ref(image_ref);
    return answer;
  }
  grpc::Status RemoveImage(grpc::ServerContext*, const cri::RemoveImageRequest*,
                           cri::RemoveImageResponse*) override {
    return answer;
  }

  std::string last;
  std::chrono::system_clock::time_point deadline;
  std::map<std::string, std::string> metadata;
  std::string image_ref = "sha256:id";
  grpc::Status answer;
  std::function<void(grpc::ServerContext&)> during;
};

class CriProxyTest : public ::testing::Test {
 protected:
  // gRPC stays as long as the program: when its last user goes it may wait ten seconds for a
  // connection that has not ended yet.
  static void SetUpTestSuite() { grpc_init(); }
  CriProxyTest() {
    start_containerd();
    auto listening = listen_at(folder_ / "s");
    EXPECT_TRUE(listening) << listening.error().message();
    auto server = Server::start(std::move(*listening), other_, &proxy_);
    EXPECT_TRUE(server);
    server_ = std::move(*server);
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(32 << 20);
    stub_ = cri::ImageService::NewStub(grpc::CreateCustomChannel(
        "unix:" + (folder_ / "s").string(), grpc::InsecureChannelCredentials(), arguments));
  }
  void start_containerd() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + (folder_ / "c").string(), grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    builder.SetMaxReceiveMessageSize(16 << 20);
    containerd_ = builder.BuildAndStart();
  }
  static cri::PullImageRequest request(const std::string& password = "pw") {
    cri::PullImageRequest request;
    request.mutable_image()->set_image("registry.example/web:1");
    request.mutable_auth()->set_username("user");
    request.mutable_auth()->set_password(password);
    return request;
  }
  std::size_t found() const { return logins_->find({"registry.example", "web"})->size(); }

  test::TemporaryDirectory folder_;
  FakeImageService service_;
  std::unique_ptr<grpc::Server> containerd_;
  const std::shared_ptr<CriLogins> logins_ = std::make_shared<CriLogins>();
  CriProxy proxy_{(folder_ / "c").string(), logins_};
  containerd::services::content::v1::Content::Service other_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<cri::ImageService::Stub> stub_;
};

TEST_F(CriProxyTest, PassesACallOnAsItCame) {
  cri::PullImageRequest sent = request();
  // The sandbox's configuration, of which we know nothing.
  sent.GetReflection()->MutableUnknownFields(&sent)->AddLengthDelimited(3, "unknown to us");
  std::size_t during = 0;
  service_.during = [&](grpc::ServerContext&) { during = found(); };
  grpc::ClientContext context;
  context.AddMetadata("x-kubelet", "yes");
  context.AddMetadata("x-binary-bin", std::string("\0\1", 2));
  const auto deadline = std::chrono::system_clock::now() + std::chrono::minutes(5);
  context.set_deadline(deadline);
  cri::PullImageResponse response;
  const grpc::Status status = stub_->PullImage(&context, sent, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.image_ref(), "sha256:id");
  EXPECT_EQ(service_.last, sent.SerializeAsString());
  EXPECT_EQ(service_.metadata["x-kubelet"], "yes");
  EXPECT_EQ(service_.metadata["x-binary-bin"], std::string("\0\1", 2));
  EXPECT_LT(std::chrono::abs(service_.deadline - deadline), std::chrono::seconds(5));
  EXPECT_TRUE(context.GetServerInitialMetadata().contains("x-initial"));
  EXPECT_TRUE(context.GetServerTrailingMetadata().contains("x-trailing"));
  EXPECT_EQ(during, 1U) << "containerd asks for the layers during the pull";
  EXPECT_EQ(found(), 1U);
}

TEST_F(CriProxyTest, PassesErrorsBack) {
  service_.answer = {Code::PERMISSION_DENIED, "not for you", std::string("details\0", 8)};
  grpc::ClientContext context;
  cri::PullImageResponse response;
  const grpc::Status status = stub_->PullImage(&context, request(), &response);
  EXPECT_EQ(status.error_code(), Code::PERMISSION_DENIED);
  EXPECT_EQ(status.error_message(), "not for you");
  EXPECT_EQ(status.error_details(), std::string("details\0", 8));
  EXPECT_EQ(found(), 0U) << "of a pull that failed nothing is kept";
}

TEST_F(CriProxyTest, ForgetsWithTheImage) {
  cri::PullImageResponse response;
  grpc::ClientContext pull;
  ASSERT_TRUE(stub_->PullImage(&pull, request(), &response).ok());
  cri::RemoveImageRequest removal;
  removal.mutable_image()->set_image("sha256:id");
  cri::RemoveImageResponse removed;
  service_.answer = {Code::INTERNAL, "in use"};
  grpc::ClientContext failing;
  EXPECT_FALSE(stub_->RemoveImage(&failing, removal, &removed).ok());
  EXPECT_EQ(found(), 1U);
  service_.answer = {};
  grpc::ClientContext working;
  EXPECT_TRUE(stub_->RemoveImage(&working, removal, &removed).ok());
  EXPECT_EQ(found(), 0U);
}

TEST_F(CriProxyTest, PassesACancellationOn) {
  std::promise<void> arrived;
  std::promise<bool> cancelled;
  service_.during = [&](grpc::ServerContext& context) {
    arrived.set_value();
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!context.IsCancelled() && std::chrono::steady_clock::now() < limit) {
      std::this_thread::yield();
    }
    cancelled.set_value(context.IsCancelled());
  };
  grpc::ClientContext context;
  cri::PullImageResponse response;
  std::jthread canceller([&] {
    arrived.get_future().wait();
    context.TryCancel();
  });
  const grpc::Status status = stub_->PullImage(&context, request(), &response);
  EXPECT_EQ(status.error_code(), Code::CANCELLED);
  EXPECT_TRUE(cancelled.get_future().get());
}

TEST_F(CriProxyTest, SaysThatContainerdIsAwayAndFindsItAgain) {
  containerd_->Shutdown(std::chrono::system_clock::now());
  containerd_->Wait();
  cri::PullImageResponse response;
  grpc::ClientContext context;
  const grpc::Status away = stub_->PullImage(&context, request(), &response);
  EXPECT_EQ(away.error_code(), Code::UNAVAILABLE);
  EXPECT_THAT(away.error_message(), HasSubstr("does not reach containerd at"));
  EXPECT_EQ(found(), 0U);
  start_containerd();
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (;;) {
    grpc::ClientContext again;
    if (stub_->PullImage(&again, request(), &response).ok()) break;
    ASSERT_LT(std::chrono::steady_clock::now(), limit);
  }
}

TEST_F(CriProxyTest, CarriesLargeMessagesButNotLargerOnes) {
  service_.image_ref = std::string(5 << 20, 'x');
  cri::PullImageResponse response;
  grpc::ClientContext large;
  EXPECT_TRUE(stub_->PullImage(&large, request(std::string(5 << 20, 'p')), &response).ok());
  EXPECT_EQ(response.image_ref(), service_.image_ref);
  EXPECT_EQ(found(), 0U) << "a credential of that size is passed on, but not kept";
  grpc::ClientContext larger;
  EXPECT_EQ(stub_->PullImage(&larger, request(std::string(17 << 20, 'p')), &response).error_code(),
            Code::RESOURCE_EXHAUSTED);
}

TEST_F(CriProxyTest, OtherServicesAreNotPassedOn) {
  const auto channel =
      grpc::CreateChannel("unix:" + (folder_ / "s").string(), grpc::InsecureChannelCredentials());
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  const grpc::Slice empty("");
  grpc::ByteBuffer request(&empty, 1);
  grpc::ByteBuffer response;
  std::promise<grpc::Status> answer;
  stub.UnaryCall(&context, "/containerd.services.images.v1.Images/List", {}, &request, &response,
                 [&](const grpc::Status& status) { answer.set_value(status); });
  EXPECT_EQ(answer.get_future().get().error_code(), Code::UNIMPLEMENTED);
}

}  // namespace
}  // namespace imsy::snapshotter
