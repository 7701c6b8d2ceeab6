#include "cli/seed/serve.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include "common/http/listener.h"
#include "common/http/server.h"
#include "tests/unit/cli/support.h"

namespace imsy::cli::seed {
namespace {

using http::bound_address;
using http::kHeadSizeMax;
using http::listen_on;

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A TCP connection on which the test writes requests by hand.
class Client {
 public:
  explicit Client(int port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<std::uint16_t>(port));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(socket_.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
  }
  bool connected() const { return connected_; }

  void send(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;  // the server has closed; receive() tells
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
  }
  // Everything until the server closes.
  std::string receive() const {
    std::string text;
    char piece[4096];
    for (;;) {
      const ssize_t got = ::recv(socket_.get(), piece, sizeof piece, 0);
      if (got <= 0) return text;
      text.append(piece, static_cast<std::size_t>(got));
    }
  }
  // Everything up to this text, which is the end of an answer.
  std::string receive_until(const std::string& end) const {
    std::string text;
    char byte = 0;
    while (!text.ends_with(end) && ::recv(socket_.get(), &byte, 1, 0) == 1) text += byte;
    return text;
  }

 private:
  UniqueFd socket_;
  bool connected_ = false;
};

class ServerTest : public ::testing::Test {
 protected:
  ServerTest() : list_(prepare_in(temp_ / "cas", "0123456789")), server_(temp_ / "cas") {}

  const std::string object_ = sha256("0123456789").hex();

  // One request, and all that comes back.
  std::string ask(const std::string& request_line, const std::string& fields = "") {
    const Client client(server_.port());
    client.send(request_line + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + fields + "\r\n");
    return client.receive();
  }
  std::string ask_range(const std::string& fields, const std::string& method = "GET") {
    return ask(method + " /" + object_, fields);
  }

  TempDir temp_;
  const std::string list_;
  ServeThread server_;
};

TEST_F(ServerTest, ServesObjects) {
  EXPECT_THAT(ask("GET /" + object_),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Length: 10\r\n"),
                    HasSubstr("Accept-Ranges: bytes\r\n"), EndsWith("\r\n\r\n0123456789")));
  EXPECT_THAT(ask("GET /" + list_), EndsWith("\r\n\r\n" + object_ + "\n"));
}

TEST_F(ServerTest, ServesAFileThatIsLargerThanItsBuffers) {
  const std::string text = random_text();
  write_file(temp_ / "cas" / sha256(text).hex(), text);
  const std::string answer = ask("GET /" + sha256(text).hex());
  EXPECT_TRUE(answer.ends_with("\r\n\r\n" + text));
}

TEST_F(ServerTest, ServesAnEmptyObject) {
  write_file(temp_ / "cas" / sha256("").hex(), "");
  EXPECT_THAT(ask("GET /" + sha256("").hex()),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Length: 0\r\n"),
                    EndsWith("\r\n\r\n")));
}

TEST_F(ServerTest, AnswersTheRootWithNothing) {
  EXPECT_THAT(ask("GET /"), AllOf(StartsWith("HTTP/1.1 200 OK\r\n"),
                                  HasSubstr("Content-Length: 0\r\n"), EndsWith("\r\n\r\n")));
}

TEST_F(ServerTest, KnowsNothingButObjects) {
  write_file(temp_ / "cas" / "name", "secret");
  write_file(temp_ / "outside", "secret");
  const std::string link(64, '1');
  std::filesystem::create_symlink(temp_ / "outside", temp_ / "cas" / link);
  const std::string folder(64, '2');
  std::filesystem::create_directory(temp_ / "cas" / folder);
  std::string upper = object_;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  for (const std::string& path :
       {std::string(64, '0'), std::string("name"), std::string("../outside"), std::string("."),
        std::string("%2e%2e/outside"), "/" + object_, object_ + "/", object_ + "%00", upper, link,
        folder, std::string(5000, 'a')}) {
    EXPECT_THAT(ask("GET /" + path),
                AllOf(StartsWith("HTTP/1.1 404 Not Found\r\n"), EndsWith("\r\n\r\nnot found\n")))
        << path;
  }
}

TEST_F(ServerTest, TakesNoNoticeOfAQuery) {
  EXPECT_THAT(ask("GET /" + object_ + "?x=1"), EndsWith("\r\n\r\n0123456789"));
}

TEST_F(ServerTest, AnswersHeadWithoutABody) {
  EXPECT_THAT(ask("HEAD /" + object_),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Length: 10\r\n"),
                    EndsWith("\r\n\r\n")));
  EXPECT_THAT(ask("HEAD /nothing"),
              AllOf(StartsWith("HTTP/1.1 404 Not Found\r\n"), EndsWith("\r\n\r\n")));
}

TEST_F(ServerTest, ServesOneRange) {
  EXPECT_THAT(
      ask_range("Range: bytes=2-4\r\n"),
      AllOf(StartsWith("HTTP/1.1 206 Partial Content\r\n"), HasSubstr("Content-Length: 3\r\n"),
            HasSubstr("Content-Range: bytes 2-4/10\r\n"), EndsWith("\r\n\r\n234")));
  EXPECT_THAT(ask_range("range:bytes=-1\r\n"),
              AllOf(HasSubstr("Content-Range: bytes 9-9/10\r\n"), EndsWith("\r\n\r\n9")));
  EXPECT_THAT(ask_range("Range: bytes=8-99999999999999999999\r\n"), EndsWith("\r\n\r\n89"));
}

TEST_F(ServerTest, RefusesARangeBehindTheEnd) {
  EXPECT_THAT(ask_range("Range: bytes=10-\r\n"),
              AllOf(StartsWith("HTTP/1.1 416 "), HasSubstr("Content-Range: bytes */10\r\n"),
                    Not(HasSubstr("0123456789"))));
}

TEST_F(ServerTest, AnswersOtherRangesWithTheWhole) {
  for (const std::string fields :
       {"Range: bytes=0-1,4-5\r\n", "Range: bytes=0-1\r\nRange: bytes=4-5\r\n",
        "Range: lines=0-1\r\n", "Range: nonsense\r\n",
        "Range: bytes=0-1\r\nIf-Range: \"something\"\r\n"}) {
    EXPECT_THAT(ask_range(fields),
                AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), Not(HasSubstr("Content-Range")),
                      Not(HasSubstr("multipart")), EndsWith("\r\n\r\n0123456789")))
        << fields;
  }
  EXPECT_THAT(ask_range("Range: bytes=0-1\r\n", "HEAD"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("Content-Length: 10\r\n")));
  // A field with more ranges than a parser that recurses could bear.
  std::string many = "Range: bytes=0-1";
  while (many.size() < 7000) many += ",0-1";
  EXPECT_THAT(ask_range(many + "\r\n"), EndsWith("\r\n\r\n0123456789"));
}

TEST_F(ServerTest, SendsFilesAsTheyAre) {
  EXPECT_THAT(ask_range("Accept-Encoding: gzip, br\r\n"),
              AllOf(Not(HasSubstr("Content-Encoding")), EndsWith("\r\n\r\n0123456789")));
}

TEST_F(ServerTest, RefusesOtherMethodsAndEndsTheConnection) {
  for (const std::string method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH"}) {
    const Client client(server_.port());
    // The body looks like a request; it must not be answered.
    const std::string body = "GET / HTTP/1.1\r\n\r\n";
    client.send(method + " /" + object_ +
                " HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    const std::string answer = client.receive();
    EXPECT_THAT(answer, AllOf(StartsWith("HTTP/1.1 405 "), HasSubstr("Allow: GET, HEAD\r\n"),
                              HasSubstr("Connection: close\r\n")));
    EXPECT_EQ(answer.find("HTTP/1.1", 1), std::string::npos);
  }
  EXPECT_EQ(read_all(temp_ / "cas" / object_), "0123456789");
}

TEST_F(ServerTest, DoesNotTakeABodyForARequest) {
  for (const std::string framing : {"Content-Length: 18", "Transfer-Encoding: chunked"}) {
    const Client client(server_.port());
    client.send("GET / HTTP/1.1\r\n" + framing + "\r\n\r\nGET /" + object_ + " HTTP/1.1\r\n\r\n");
    EXPECT_THAT(client.receive(), Not(HasSubstr("0123456789")));
  }
}

TEST_F(ServerTest, AnswersManyRequestsOnOneConnection) {
  const Client client(server_.port());
  for (int i = 0; i < 20; ++i) {
    client.send("GET /" + object_ + " HTTP/1.1\r\nHost: h\r\n\r\n");
    EXPECT_THAT(client.receive_until("0123456789"), StartsWith("HTTP/1.1 200 OK\r\n"));
  }
  // Two at once, the second with an empty line before it.
  const std::string request = "GET /" + list_ + " HTTP/1.1\r\n\r\n";
  client.send(request + "\r\n" + request);
  EXPECT_THAT(client.receive_until(object_ + "\n"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(client.receive_until(object_ + "\n"), StartsWith("HTTP/1.1 200 OK\r\n"));
  server_.end();
  EXPECT_EQ(server_.requests(), 22u);
}

TEST_F(ServerTest, RefusesAHeadThatIsTooLong) {
  const std::string line = "X-Filler: 0123456789012345678901234567890123456789\r\n";
  std::string fields;
  while (fields.size() <= kHeadSizeMax) fields += line;
  EXPECT_THAT(ask("GET /", fields), StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(ask("GET /" + std::string(2 * kHeadSizeMax, 'a')), StartsWith("HTTP/1.1 431 "));
}

TEST_F(ServerTest, RefusesWhatIsNotHttp) {
  for (const std::string text : {"\x16\x03\x01\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n",
                                 "BREW / HTTP/1.1\r\n\r\n", "GET /\n\r\n"}) {
    const Client client(server_.port());
    client.send(text);
    EXPECT_THAT(client.receive(), StartsWith("HTTP/1.1 400 ")) << text;
  }
  EXPECT_THAT(ask("GET /"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(ServerTest, CutsAnAnswerShortWhenTheFileShrinks) {
  // Sparse, and larger than all buffers between the two sides.
  const std::string name(64, '3');
  write_file(temp_ / "cas" / name, "");
  std::filesystem::resize_file(temp_ / "cas" / name, 64 << 20);
  const Client client(server_.port());
  client.send("GET /" + name + " HTTP/1.1\r\n\r\n");
  client.receive_until("\r\n\r\n");
  std::filesystem::resize_file(temp_ / "cas" / name, 1 << 20);
  EXPECT_LT(client.receive().size(), std::size_t{64} << 20);
  EXPECT_THAT(ask("GET /"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST_F(ServerTest, SilentClientsDoNotHoldUpOthers) {
  std::vector<Client> silent;
  for (int i = 0; i < 100; ++i) {
    silent.emplace_back(server_.port());
    ASSERT_TRUE(silent.back().connected());
    if (i % 2 == 1) silent.back().send("GET /" + object_ + " HTT");
  }
  EXPECT_THAT(ask("GET /" + object_), EndsWith("0123456789"));
  EXPECT_EQ(server_.end(), kExitDone);  // it does not wait for them either
}

TEST_F(ServerTest, EndsAnAnswerThatIsUnderWay) {
  const std::string text = random_text();
  write_file(temp_ / "cas" / sha256(text).hex(), text);
  const Client client(server_.port());
  client.send("GET /" + sha256(text).hex() + " HTTP/1.1\r\n\r\n");
  client.receive_until("\r\n\r\n");
  std::string body;
  std::thread reader([&] { body = client.receive(); });
  EXPECT_EQ(server_.end(), kExitDone);
  reader.join();
  EXPECT_TRUE(body == text);
}

TEST_F(ServerTest, LogsEachRequestAsTheOriginalDoes) {
  ask("GET /" + object_);
  ask("GET /a%22b%0Ac");
  ask("GET /");
  server_.end();
  EXPECT_THAT(server_.log(), HasSubstr(" fetched \"" + object_ + "\"\n"));
  EXPECT_THAT(server_.log(), HasSubstr(" fetched \"a\\\"b\\x0ac\"\n"));
  EXPECT_THAT(server_.log(), HasSubstr(" fetched \"\"\n"));
  EXPECT_EQ(server_.requests(), 3u);
}

TEST(Listener, KnowsTheAddressesOfTheOriginal) {
  for (const char* address : {":0", "127.0.0.1:0", "localhost:0"}) {
    const auto socket = listen_on(address);
    ASSERT_TRUE(socket) << socket.error().message();
    const auto bound = bound_address(socket->get());
    ASSERT_TRUE(bound);
    EXPECT_GT(std::stoi(bound->substr(bound->rfind(':') + 1)), 0);
  }
}

TEST(Listener, AnswersOverIpv4OnAllAddresses) {
  const auto socket = listen_on(":0");
  ASSERT_TRUE(socket);
  const std::string bound = *bound_address(socket->get());
  EXPECT_TRUE(Client(std::stoi(bound.substr(bound.rfind(':') + 1))).connected());
}

TEST(Listener, SaysWhenAPortIsTaken) {
  const auto first = listen_on("127.0.0.1:0");
  ASSERT_TRUE(first);
  const auto second = listen_on(*bound_address(first->get()));
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().sys_errno(), EADDRINUSE);
}

}  // namespace
}  // namespace imsy::cli::seed
