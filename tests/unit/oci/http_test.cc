#include "oci/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <string>

#include "common/mutex.h"
#include "tests/support/fake_registry.h"
#include "tests/unit/oci/support.h"

namespace imsy::oci {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::FakeRegistry;
using test::FakeRequest;
using test::FakeResponse;
using ::testing::HasSubstr;

std::string text(const Bytes& bytes) {
  return std::string(as_text(bytes));
}

HttpRequest get(const FakeRegistry& server, const std::string& path) {
  HttpRequest request;
  request.url = server.endpoint() + path;
  return request;
}

// Answers everything below /x with the given response.
void answer(FakeRegistry& server, const FakeResponse& response) {
  server.fault("", "/x", FakeRegistry::kAlways,
               [response](const FakeRequest&, FakeResponse& changed) { changed = response; });
}

FakeResponse ok(std::string body) {
  FakeResponse response;
  response.body = std::move(body);
  return response;
}

TEST(Http, DeliversAnyStatusWithHeadersAndBody) {
  FakeRegistry server;
  FakeResponse response = ok("nothing here");
  response.status = 404;
  response.set("X-Name", "  value ");
  answer(server, response);
  HttpClient client;
  auto result = client.perform(get(server, "/x?secret=1"));
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(result->status, 404);
  EXPECT_EQ(result->header("x-name"), "value");
  EXPECT_EQ(text(result->body), "nothing here");
  EXPECT_EQ(result->peer_address, "127.0.0.1");
  EXPECT_EQ(server.log().at(0).header("accept-encoding"), "identity");
}

TEST(Http, SendsMethodHeadersAndBody) {
  FakeRegistry server;
  std::string seen;
  server.fault("", "/x", FakeRegistry::kAlways,
               [&](const FakeRequest& request, FakeResponse&) { seen = request.body; });
  HttpClient client;
  const std::string large(3'000'000, 'q');
  for (const std::string& body : {large, std::string("small"), std::string()}) {
    for (const char* method : {"POST", "PUT", "PATCH"}) {
      HttpRequest request = get(server, "/x");
      request.method = method;
      request.headers = {{"X-Key", "value"}};
      const auto span = as_bytes(body);
      request.body = std::make_shared<const Bytes>(span.begin(), span.end());
      server.clear_log();
      ASSERT_TRUE(client.perform(std::move(request)));
      const FakeRequest logged = server.log().at(0);
      EXPECT_EQ(logged.method, method);
      EXPECT_EQ(logged.header("x-key"), "value");
      EXPECT_EQ(logged.header("content-length"), std::to_string(body.size()));
      EXPECT_EQ(logged.headers.count("expect"), 0u);
      EXPECT_EQ(logged.headers.count("content-type"), 0u);
      EXPECT_TRUE(seen == body);
    }
  }
  HttpRequest empty = get(server, "/x");
  empty.method = "POST";
  server.clear_log();
  ASSERT_TRUE(client.perform(std::move(empty)));
  EXPECT_EQ(server.log().at(0).header("content-length"), "0");
  HttpRequest head = get(server, "/x");
  head.method = "HEAD";
  EXPECT_TRUE(client.perform(std::move(head)));
}

TEST(Http, HoldsTheBodyLimit) {
  FakeRegistry server;
  answer(server, ok(std::string(1000, 'a')));
  HttpClient client;
  HttpRequest request = get(server, "/x");
  request.body_limit = 1000;
  EXPECT_TRUE(client.perform(request));
  request.body_limit = 999;
  auto result = client.perform(request);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::kInvalid);
}

TEST(Http, DoesNotWaitForABodyThatIsAnnouncedAsTooLarge) {
  for (const char* length : {"1001", "99999999999999999999999"}) {
    FakeRegistry server;
    FakeResponse response = ok(std::string(10, 'a'));
    response.set("Content-Length", length);
    response.end = FakeResponse::End::kStall;
    answer(server, response);
    HttpClient client;
    HttpRequest request = get(server, "/x");
    request.body_limit = 1000;
    auto result = client.perform(request);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::kInvalid) << length;
    request.method = "HEAD";
    EXPECT_TRUE(client.perform(request));
  }
}

TEST(Http, EndsAnEndlessBody) {
  FakeRegistry server;
  FakeResponse response = ok(std::string(10'000, 'a'));
  response.endless = true;
  answer(server, response);
  HttpClient client;
  auto result = client.perform(get(server, "/x"));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::kInvalid);
}

TEST(Http, CutsTheBodyOfAnError) {
  FakeRegistry server;
  FakeResponse response = ok(std::string(10'000, 'a'));
  response.status = 500;
  response.endless = true;
  answer(server, response);
  HttpClient client;
  auto result = client.perform(get(server, "/x"));
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(result->status, 500);
  EXPECT_EQ(result->body.size(), 64u << 10);
}

TEST(Http, RefusesFloodsOfHeaders) {
  FakeRegistry server;
  HttpClient client;
  std::string many = "HTTP/1.1 200 OK\r\n";
  for (int i = 0; i < 200; ++i) many += "A: b\r\n";
  std::string interim;
  for (int i = 0; i < 50; ++i) interim += "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n";
  const std::string cases[] = {
      many + "Content-Length: 0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nA: " + std::string(70'000, 'x') + "\r\nContent-Length: 0\r\n\r\n",
      interim + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
  };
  for (const std::string& raw : cases) {
    server.clear_faults();
    FakeResponse response;
    response.raw = raw;
    response.end = FakeResponse::End::kClose;
    answer(server, response);
    auto result = client.perform(get(server, "/x"));
    ASSERT_FALSE(result) << raw.substr(0, 40);
    EXPECT_EQ(result.error().code(), Errc::kInvalid) << result.error().message();
  }
}

TEST(Http, TakesSomeInterimAnswersAndDropsTrailers) {
  FakeRegistry server;
  FakeResponse response;
  response.raw =
      "HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n"
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n"
      "2\r\nhi\r\n0\r\nX-Late: 1\r\n\r\n";
  answer(server, response);
  HttpClient client;
  auto result = client.perform(get(server, "/x"));
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(text(result->body), "hi");
  EXPECT_EQ(result->header("x-early"), "");
  EXPECT_EQ(result->header("x-late"), "");
}

TEST(Http, ReportsBrokenConnectionsAsUnavailable) {
  HttpClient client;
  FakeRegistry server;
  const auto expect_unavailable = [&](const FakeResponse& response) {
    server.clear_faults();
    answer(server, response);
    auto result = client.perform(get(server, "/x"));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::kUnavailable) << result.error().message();
  };
  FakeResponse cut = ok("0123456789");
  cut.send_at_most = 5;
  cut.end = FakeResponse::End::kClose;
  expect_unavailable(cut);
  cut.end = FakeResponse::End::kReset;
  expect_unavailable(cut);
  cut.framing = FakeResponse::Framing::kChunked;
  cut.end = FakeResponse::End::kClose;
  expect_unavailable(cut);
  FakeResponse nothing;
  nothing.raw = "HTTP/1.1 200";
  nothing.end = FakeResponse::End::kReset;
  expect_unavailable(nothing);
  for (const char* raw : {"HTTP", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
                          "HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", "junk\r\n\r\n"}) {
    nothing.raw = raw;
    nothing.end = FakeResponse::End::kClose;
    expect_unavailable(nothing);
  }
  HttpRequest nowhere;
  nowhere.url = "http://127.0.0.1:1/x";
  auto result = client.perform(nowhere);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::kUnavailable);
}

TEST(Http, EndsATransferThatStalls) {
  FakeRegistry server;
  FakeResponse response = ok("0123456789");
  response.send_at_most = 5;
  response.end = FakeResponse::End::kStall;
  answer(server, response);
  HttpClient client;
  HttpRequest request = get(server, "/x");
  request.idle_timeout = milliseconds(50);
  auto result = client.perform(request);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::kTimeout);
  request.idle_timeout = milliseconds(60'000);
  request.total_timeout = milliseconds(50);
  result = client.perform(request);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::kTimeout);
}

TEST(Http, EndsATransferThatDrips) {
  FakeRegistry server;
  FakeResponse response = ok(noise(10'000));
  response.drip = milliseconds(5);
  answer(server, response);
  HttpClient client;
  HttpRequest request = get(server, "/x");
  request.idle_timeout = milliseconds(200);
  request.min_rate = 10'000;
  const auto result = client.perform(request);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::kTimeout);
}

TEST(Http, KeepsWhatAnswersShowOfAnOrigin) {
  FakeRegistry server;
  HttpClient client;
  const auto health = client.health(server.endpoint());
  EXPECT_EQ(client.health(server.endpoint()), health);
  EXPECT_NE(client.health("https://other.example:443"), health);
  EXPECT_FALSE(health->cost().round_trip);
  answer(server, ok("x"));
  ASSERT_TRUE(client.perform(get(server, "/x")));
  EXPECT_TRUE(health->cost().round_trip);
  const auto expect_well = [&](bool well) {
    EXPECT_EQ(health->admit(std::chrono::steady_clock::now()), well);
  };
  // What we refuse says nothing of the server.
  HttpRequest small = get(server, "/x");
  small.body_limit = 0;
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(client.perform(small));
  expect_well(true);
  FakeResponse busy = ok("");
  busy.status = 429;
  busy.set("Retry-After", "30");
  server.clear_faults();
  answer(server, busy);
  ASSERT_TRUE(client.perform(get(server, "/x")));
  expect_well(false);
  EXPECT_GT(health->not_before(), std::chrono::steady_clock::now());
}

TEST(Http, RefusesMalformedRequestsBeforeTheyAreSent) {
  FakeRegistry server;
  HttpClient client;
  const auto expect_invalid = [&](const HttpRequest& request) {
    auto result = client.perform(request);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::kInvalid) << result.error().message();
  };
  for (const std::string& url :
       {std::string("file:///etc/passwd"), std::string("ftp://127.0.0.1/x"), std::string(),
        std::string("http://"), std::string("gopher://127.0.0.1/"), server.endpoint() + "/a b",
        "http://user:secret@" + server.host() + "/x", server.endpoint() + "/\xC3\xA9"}) {
    HttpRequest request;
    request.url = url;
    expect_invalid(request);
  }
  HttpRequest request = get(server, "/x");
  request.method = "GET / HTTP/1.1\r\nX:";
  expect_invalid(request);
  request = get(server, "/x");
  request.headers = {{"X", "a\r\nY: b"}};
  expect_invalid(request);
  request.headers = {{"X: a\r\nY", "b"}};
  expect_invalid(request);
  EXPECT_TRUE(server.log().empty());
}

TEST(Http, MessagesDoNotShowTheQuery) {
  HttpClient client;
  HttpRequest request;
  request.url = "http://127.0.0.1:1/path?X-Signature=topsecret";
  auto result = client.perform(request);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message(), HasSubstr("GET http://127.0.0.1:1/path"));
  EXPECT_EQ(result.error().message().find("topsecret"), std::string::npos);
}

TEST(Http, GivesTheBodyPieceByPiece) {
  FakeRegistry server;
  std::string body(1'000'000, 'a');
  for (std::size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>('a' + i % 23);
  answer(server, ok(body));
  HttpClient client;
  HttpRequest request = get(server, "/x");
  std::string collected;
  bool headers_first = false;
  request.on_headers = [&](const HttpResponse& response) {
    headers_first = collected.empty() && response.status == 200;
    return Status();
  };
  request.on_body = [&](ByteSpan piece) {
    collected += as_text(piece);
    return Status();
  };
  auto result = client.perform(request);
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_TRUE(headers_first);
  EXPECT_TRUE(collected == body);
  EXPECT_TRUE(result->body.empty());
}

TEST(Http, ErrorsOfCallbacksEndTheTransfer) {
  FakeRegistry server;
  answer(server, ok(std::string(1'000'000, 'a')));
  HttpClient client;
  HttpRequest request = get(server, "/x");
  request.on_body = [](ByteSpan) { return Status(Error(Errc::kNoSpace, "full")); };
  auto result = client.perform(request);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::kNoSpace);
  request.on_headers = [](const HttpResponse&) { return Status(Error(Errc::kCorrupt, "bad")); };
  result = client.perform(request);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::kCorrupt);
}

TEST(Http, PausesUntilWoken) {
  FakeRegistry server;
  const std::string body(1'000'000, 'b');
  answer(server, ok(body));
  HttpClient client;
  HttpRequest request = get(server, "/x");
  request.body_limit = body.size();
  // Takes part of the body, then nothing until the test says so; again and again. The idle limit
  // must not count the pauses.
  request.idle_timeout = seconds(1);
  Mutex mu;
  CondVar changed;
  std::size_t received = 0;
  std::size_t room = 0;
  bool paused = false;
  bool over = false;
  request.on_body = [&](ByteSpan piece) {
    const MutexLock lock(mu);
    received += piece.size();
    return Status();
  };
  request.should_pause = [&] {
    const MutexLock lock(mu);
    paused = received >= room;
    changed.notify_all();
    return paused;
  };
  std::promise<Result<HttpResponse>> finished;
  client.start(request, [&](Result<HttpResponse> result) {
    const MutexLock lock(mu);
    over = true;
    changed.notify_all();
    finished.set_value(std::move(result));
  });
  for (std::size_t step = 500'000; step <= body.size(); step += 500'000) {
    {
      const MutexLock lock(mu);
      while (!paused && !over) changed.wait(mu);
      EXPECT_LE(received, room + (256u << 10));
      paused = false;
      room = step == body.size() ? body.size() + 1 : step;
    }
    std::promise<void> later;  // two idle windows
    client.call_after(seconds(2), [&] { later.set_value(); });
    later.get_future().wait();
    client.wake();
  }
  auto result = finished.get_future().get();
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_EQ(received, body.size());
}

TEST(Http, CancelEndsRunningAndWaitingRequests) {
  Gate gate;
  FakeRegistry server;
  server.fault("", "/x", FakeRegistry::kAlways,
               [&](const FakeRequest&, FakeResponse&) { gate.pass(); });
  HttpOptions options;
  options.connections_per_host = 1;
  HttpClient client(options);
  std::promise<Errc> first;
  std::promise<Errc> second;
  const auto code = [](std::promise<Errc>& to) {
    return [&](const Result<HttpResponse>& result) {
      to.set_value(result ? Errc::kInternal : result.error().code());
    };
  };
  const auto running = client.start(get(server, "/x"), code(first));
  const auto waiting = client.start(get(server, "/x"), code(second));
  gate.wait_for(1);
  client.cancel(waiting);
  EXPECT_EQ(second.get_future().get(), Errc::kCancelled);
  client.cancel(running);
  EXPECT_EQ(first.get_future().get(), Errc::kCancelled);
  client.cancel(running);  // is gone: no harm
  gate.open();
  EXPECT_TRUE(client.perform(get(server, "/y")));
  EXPECT_EQ(server.count("", "/x"), 1u);
}

TEST(Http, OpensNoMoreThanItsShareOfConnections) {
  Gate gate;
  FakeRegistry server;
  server.fault("", "/x", FakeRegistry::kAlways,
               [&](const FakeRequest&, FakeResponse&) { gate.pass(); });
  HttpOptions options;
  options.connections_per_host = 3;
  HttpClient client(options);
  std::vector<std::promise<bool>> done(10);
  for (auto& one : done) {
    client.start(get(server, "/x"),
                 [&](const Result<HttpResponse>& result) { one.set_value(result.has_value()); });
  }
  gate.wait_for(3);
  // Another server is not affected by the queue of the first.
  FakeRegistry other;
  EXPECT_TRUE(client.perform(get(other, "/y")));
  EXPECT_EQ(server.log().size(), 3u);
  gate.open();
  for (auto& one : done) EXPECT_TRUE(one.get_future().get());
  EXPECT_EQ(server.log().size(), 10u);
  EXPECT_EQ(server.connections(), 3u) << "each is used for what comes next";
}

TEST(Http, KeepsItsConnections) {
  for (const bool tls : {false, true}) {
    FakeRegistry server({.tls = tls});
    HttpOptions options;
    options.ca_file = server.ca_file();
    HttpClient client(options);
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(client.perform(get(server, "/v2/")));
    EXPECT_EQ(server.connections(), 1u) << (tls ? "https" : "http");
  }
}

TEST(Http, ServersWithoutHttp2GetAConnectionForEachTransferAlsoWithTls) {
  Gate gate;
  FakeRegistry server({.tls = true});
  server.fault("", "/x", FakeRegistry::kAlways,
               [&](const FakeRequest&, FakeResponse&) { gate.pass(); });
  HttpOptions options;
  options.connections_per_host = 3;
  options.ca_file = server.ca_file();
  HttpClient client(options);
  std::vector<std::promise<bool>> done(10);
  for (auto& one : done) {
    client.start(get(server, "/x"),
                 [&](const Result<HttpResponse>& result) { one.set_value(result.has_value()); });
  }
  gate.wait_for(3);  // at once, though it was not known whether they could share one
  gate.open();
  for (auto& one : done) EXPECT_TRUE(one.get_future().get());
  EXPECT_EQ(server.connections(), 3u);
}

TEST(Http, DestructionAnswersEverything) {
  Gate gate;
  FakeRegistry server;
  server.fault("", "/x", FakeRegistry::kAlways,
               [&](const FakeRequest&, FakeResponse&) { gate.pass(); });
  std::atomic<int> cancelled{0};
  std::atomic<int> timers{0};
  std::atomic<int> tasks{0};
  {
    HttpOptions options;
    options.connections_per_host = 1;
    HttpClient client(options);
    HttpClient::Done again = [&](const Result<HttpResponse>& result) {
      if (!result && result.error().code() == Errc::kCancelled) ++cancelled;
    };
    HttpClient::Done first = [&](const Result<HttpResponse>& result) {
      again(result);
      client.start(get(server, "/x"), again);  // from the destructor: answered as well
    };
    client.start(get(server, "/x"), first);
    client.start(get(server, "/x"), again);
    client.call_after(std::chrono::hours(1), [&] { ++timers; });
    client.run_aside([&] {
      gate.wait_for(1);
      client.call_after(std::chrono::hours(1), [&] { ++timers; });
      ++tasks;
    });
    gate.wait_for(1);
  }
  EXPECT_EQ(cancelled, 3);
  EXPECT_EQ(timers, 2);
  EXPECT_EQ(tasks, 1);
  gate.open();
}

TEST(Http, TimersRunInOrder) {
  HttpClient client;
  std::vector<int> order;
  std::promise<void> last;
  client.call_after(milliseconds(20), [&] {
    order.push_back(2);
    client.call_after(milliseconds(0), [&] {
      order.push_back(3);
      last.set_value();
    });
  });
  client.call_after(milliseconds(1), [&] { order.push_back(1); });
  last.get_future().wait();
  EXPECT_EQ(order, (std::vector{1, 2, 3}));
}

TEST(Http, AsksBeforeItTalksToAnAddress) {
  FakeRegistry server;
  HttpClient client;
  HttpRequest request = get(server, "/x");
  std::string asked;
  bool allow = false;
  request.allow_address = [&](std::string_view address) {
    asked = address;
    return allow;
  };
  auto refused = client.perform(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kDenied);
  EXPECT_EQ(asked, "127.0.0.1");
  // Also when a connection is there already.
  allow = true;
  ASSERT_TRUE(client.perform(request));
  EXPECT_EQ(server.log().size(), 1u);
  allow = false;
  refused = client.perform(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kDenied);
  EXPECT_EQ(server.log().size(), 1u);
}

TEST(Http, CountsWhatCrosses) {
  FakeRegistry server;
  answer(server, ok(std::string(10'000, 'a')));
  HttpClient client;
  ASSERT_TRUE(client.perform(get(server, "/x")));
  HttpRequest put = get(server, "/x");
  put.method = "PUT";
  put.body = std::make_shared<const Bytes>(5000);
  ASSERT_TRUE(client.perform(put));
  const HttpCounters counters = client.counters();
  EXPECT_EQ(counters.requests, 2u);
  EXPECT_GE(counters.bytes_received, 20'000u);
  EXPECT_LE(counters.bytes_received, 21'000u);
  EXPECT_GE(counters.bytes_sent, 5000u);
  EXPECT_LE(counters.bytes_sent, 6000u);
}

TEST(Http, ChecksCertificates) {
  test::FakeRegistryOptions with_tls;
  with_tls.tls = true;
  FakeRegistry server(with_tls);
  HttpOptions options;
  options.ca_file = server.ca_file();
  EXPECT_TRUE(HttpClient(options).perform(get(server, "/x")));

  const auto expect_denied = [](const HttpOptions& with, const FakeRegistry& at) {
    auto result = HttpClient(with).perform(get(at, "/x"));
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), Errc::kDenied) << result.error().message();
    EXPECT_TRUE(at.log().empty());
  };
  with_tls.certificate_subject = "DNS:registry.example";
  FakeRegistry other_name(with_tls);
  options.ca_file = other_name.ca_file();
  expect_denied(options, other_name);
  with_tls.certificate_subject = "IP:127.0.0.1";
  with_tls.certificate_expired = true;
  FakeRegistry expired(with_tls);
  options.ca_file = expired.ca_file();
  expect_denied(options, expired);
  FakeRegistry unknown(with_tls);
  expect_denied(HttpOptions(), unknown);
}

TEST(Http, SaysWhenAServerDoesNotSpeakTls) {
  FakeRegistry plain;
  HttpRequest request;
  request.url = "https://" + plain.host() + "/x";
  auto result = HttpClient().perform(request);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::kInvalid);
  EXPECT_THAT(result.error().message(), HasSubstr("does not speak TLS"));
}

}  // namespace
}  // namespace imsy::oci
