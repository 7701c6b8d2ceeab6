#include "common/http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>

namespace imsy::http {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// What TCP adds is tested with the program that serves files.
class UnixServer : public ::testing::Test {
 protected:
  UnixServer() {
    std::string name = std::filesystem::temp_directory_path() / "imsy-http-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    folder_ = name;
    address_.sun_family = AF_UNIX;
    std::strncpy(address_.sun_path, (folder_ / "s").c_str(), sizeof address_.sun_path - 1);
    UniqueFd listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const auto* address = reinterpret_cast<const sockaddr*>(&address_);
    if (::bind(listening.get(), address, sizeof address_) != 0 ||
        ::listen(listening.get(), 8) != 0) {
      std::abort();
    }
    auto server = Server::create(std::move(listening), 1, [](const std::string& path) {
      Reply reply;
      reply.status = path == "/broken" ? 503 : 200;
      reply.content_type = "text/plain";
      reply.text = path;
      return reply;
    });
    EXPECT_TRUE(server);
    server_ = std::move(*server);
    thread_ =
        std::jthread([this](const std::stop_token& stop) { EXPECT_TRUE(server_->run(stop)); });
  }
  ~UnixServer() override {
    thread_.request_stop();
    thread_.join();
    std::filesystem::remove_all(folder_);
  }

  UniqueFd connect() const {
    UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto* address = reinterpret_cast<const sockaddr*>(&address_);
    EXPECT_EQ(::connect(client.get(), address, sizeof address_), 0);
    return client;
  }
  static std::string ask(const UniqueFd& client, const std::string& path) {
    const std::string request = "GET " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    EXPECT_TRUE(write_all(client.get(), as_bytes(request)));
    std::string answer;
    char piece[1024];
    for (;;) {
      const ssize_t got = ::read(client.get(), piece, sizeof piece);
      if (got <= 0) return answer;
      answer.append(piece, static_cast<std::size_t>(got));
    }
  }

  std::filesystem::path folder_;
  sockaddr_un address_ = {};
  std::unique_ptr<Server> server_;
  std::jthread thread_;
};

TEST_F(UnixServer, AnswersWithTextAndStatus) {
  EXPECT_THAT(ask(connect(), "/a%20b?c"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Type: text/plain\r\n"),
                    EndsWith("\r\n\r\n/a b")));
  EXPECT_THAT(ask(connect(), "/broken"),
              AllOf(StartsWith("HTTP/1.1 503 "), EndsWith("\r\n\r\n/broken")));
}

TEST_F(UnixServer, WhoComesBeyondTheLimitWaits) {
  UniqueFd first = connect();
  const UniqueFd second = connect();
  std::thread waiting([&] { EXPECT_THAT(ask(second, "/second"), EndsWith("/second")); });
  EXPECT_THAT(ask(first, "/first"), EndsWith("/first"));
  first.reset();
  waiting.join();
}

}  // namespace
}  // namespace imsy::http
