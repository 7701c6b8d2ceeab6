#include "oci/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "common/io.h"
#include "oci/base64.h"
#include "tests/support/tls_identity.h"
#include "tests/unit/oci/support.h"

namespace imsy::oci {
namespace {

using test::FakeRegistry;
using test::FakeRequest;
using test::FakeResponse;
using ::testing::HasSubstr;
using ::testing::Not;

class RegistryTest : public ::testing::Test {
 protected:
  std::shared_ptr<Registry> open(const RegistryOptions& options) {
    auto registry = Registry::open(http_, options);
    EXPECT_TRUE(registry);
    return registry ? *registry : nullptr;
  }
  Result<std::string> range(Registry& registry, const Digest& blob, std::uint64_t blob_size,
                            std::uint64_t offset, std::uint64_t length,
                            Purpose purpose = Purpose::kOther) {
    std::promise<Result<Bytes>> answer;
    registry.read_range(blob, blob_size, offset, length, purpose,
                        [&](Result<Bytes> bytes) { answer.set_value(std::move(bytes)); });
    IMSY_TRY_ASSIGN(const Bytes bytes, answer.get_future().get());
    return std::string(as_text(bytes));
  }
  // A docker configuration that knows a user at `server`.
  std::filesystem::path login(const FakeRegistry& server, const std::string& user,
                              const std::string& password) {
    return dir_.write("config.json", "{\"auths\":{\"" + server.host() + "\":{\"auth\":\"" +
                                         base64_encode(as_bytes(user + ":" + password)) + "\"}}}");
  }
  void expect_range_error(const Result<std::string>& result, Errc code) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), code) << result.error().message();
  }

  TempDir dir_;
  FakeRegistry server_;
  HttpClient http_;
  const std::string content_ = noise(1000);
  const Digest blob_ = server_.add_blob(content_);
};

TEST_F(RegistryTest, ReadsRanges) {
  auto registry = open(options_for(server_));
  EXPECT_EQ(*range(*registry, blob_, 1000, 0, 1), content_.substr(0, 1));
  EXPECT_EQ(*range(*registry, blob_, 1000, 990, 10), content_.substr(990));
  EXPECT_EQ(*range(*registry, blob_, 1000, 0, 1000), content_);
  EXPECT_EQ(server_.log().at(1).header("range"), "bytes=990-999");
  EXPECT_EQ(registry->name(), server_.host() + "/library/web");
}

TEST_F(RegistryTest, ReadsPartsAndWaits) {
  auto registry = open(options_for(server_));
  Descriptor blob = descriptor_of(content_);
  const auto part = registry->read_part(blob, 10, 20);
  ASSERT_TRUE(part) << part.error().message();
  EXPECT_EQ(as_text(*part), content_.substr(10, 20));
  EXPECT_EQ(registry->read_part(blob, 999, 2).error().code(), Errc::kInvalid);
  blob.digest = sha256("missing");
  EXPECT_EQ(registry->read_part(blob, 0, 1).error().code(), Errc::kNotFound);
}

TEST_F(RegistryTest, RefusesRangesOutsideOfTheBlob) {
  auto registry = open(options_for(server_));
  expect_range_error(range(*registry, blob_, 1000, 0, 0), Errc::kInvalid);
  expect_range_error(range(*registry, blob_, 1000, 1000, 1), Errc::kInvalid);
  expect_range_error(range(*registry, blob_, 1000, 999, 2), Errc::kInvalid);
  expect_range_error(range(*registry, blob_, 1000, UINT64_MAX, 2), Errc::kInvalid);
  expect_range_error(range(*registry, blob_, 1000, 1, UINT64_MAX), Errc::kInvalid);
  EXPECT_TRUE(server_.log().empty());
  // `done` runs on the client's thread even then.
  std::promise<std::thread::id> expected;
  http_.call_after(std::chrono::milliseconds(0),
                   [&] { expected.set_value(std::this_thread::get_id()); });
  std::promise<std::thread::id> seen;
  registry->read_range(blob_, 1000, 0, 0, Purpose::kOther,
                       [&](const Result<Bytes>&) { seen.set_value(std::this_thread::get_id()); });
  EXPECT_EQ(seen.get_future().get(), expected.get_future().get());
}

TEST_F(RegistryTest, AcceptsOnlyTheRangeThatWasAskedFor) {
  auto registry = open(options_for(server_));
  struct Case {
    const char* name;
    FakeRegistry::Change change;
    Errc code;
  };
  const auto content_range = [](const std::string& value) -> FakeRegistry::Change {
    return [value](const FakeRequest&, FakeResponse& response) {
      response.set("Content-Range", value);
    };
  };
  const Case cases[] = {
      {"200 with everything",
       [this](const FakeRequest&, FakeResponse& response) {
         response.status = 200;
         response.remove("Content-Range");
         response.body = content_;
       },
       Errc::kInvalid},
      {"200 with the right bytes",
       [](const FakeRequest&, FakeResponse& response) { response.status = 200; }, Errc::kInvalid},
      {"204", [](const FakeRequest&, FakeResponse& response) { response.status = 204; },
       Errc::kInvalid},
      {"other start", content_range("bytes 99-199/1000"), Errc::kInvalid},
      {"other end", content_range("bytes 100-198/1000"), Errc::kInvalid},
      {"other total", content_range("bytes 100-199/1001"), Errc::kInvalid},
      {"unknown total", content_range("bytes 100-199/*"), Errc::kInvalid},
      {"other unit", content_range("octets 100-199/1000"), Errc::kInvalid},
      {"more digits", content_range("bytes 0100-199/1000"), Errc::kInvalid},
      {"junk behind", content_range("bytes 100-199/1000, bytes 0-1/1000"), Errc::kInvalid},
      {"empty", content_range(""), Errc::kInvalid},
      {"two",
       [](const FakeRequest&, FakeResponse& response) {
         response.headers.emplace_back("Content-Range", "bytes 100-199/1000");
       },
       Errc::kInvalid},
      {"none", [](const FakeRequest&, FakeResponse& response) { response.remove("Content-Range"); },
       Errc::kInvalid},
      {"multipart",
       [](const FakeRequest&, FakeResponse& response) {
         response.remove("Content-Range");
         response.set("Content-Type", "multipart/byteranges; boundary=b");
         response.body = "--b\r\nContent-Range: bytes 100-199/1000\r\n\r\n" + response.body;
       },
       Errc::kInvalid},
      {"encoded",
       [](const FakeRequest&, FakeResponse& response) { response.set("Content-Encoding", "gzip"); },
       Errc::kInvalid},
      {"long", [](const FakeRequest&, FakeResponse& response) { response.body += "x"; },
       Errc::kInvalid},
      {"endless", [](const FakeRequest&, FakeResponse& response) { response.endless = true; },
       Errc::kInvalid},
  };
  for (const Case& one : cases) {
    server_.clear_faults();
    server_.clear_log();
    server_.fault("GET", "/blobs/", FakeRegistry::kAlways, one.change);
    auto result = range(*registry, blob_, 1000, 100, 100);
    ASSERT_FALSE(result) << one.name;
    EXPECT_EQ(result.error().code(), one.code) << one.name << ": " << result.error().message();
    EXPECT_EQ(server_.log().size(), 1u) << one.name;
  }
  server_.clear_faults();
  EXPECT_EQ(*range(*registry, blob_, 1000, 100, 100), content_.substr(100, 100));
}

TEST_F(RegistryTest, AcceptsAWhole200WhenTheWholeWasAskedFor) {
  auto registry = open(options_for(server_));
  server_.fault("GET", "/blobs/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.status = 200;
    response.remove("Content-Range");
  });
  EXPECT_EQ(*range(*registry, blob_, 1000, 0, 1000), content_);
}

TEST_F(RegistryTest, TriesBrokenConnectionsAgain) {
  auto registry = open(options_for(server_));
  const auto breaks = [&](const FakeRegistry::Change& change) {
    server_.clear_faults();
    server_.fault("GET", "/blobs/", 3, change);
    EXPECT_EQ(*range(*registry, blob_, 1000, 100, 100), content_.substr(100, 100));
  };
  breaks([](const FakeRequest&, FakeResponse& response) {
    response.send_at_most = 50;
    response.end = FakeResponse::End::kReset;
  });
  breaks([](const FakeRequest&, FakeResponse& response) {
    response.send_at_most = 50;
    response.framing = FakeResponse::Framing::kChunked;
    response.end = FakeResponse::End::kClose;
  });
  // Without a length nothing but the size shows that something is missing.
  breaks([](const FakeRequest&, FakeResponse& response) {
    response.body.resize(50);
    response.framing = FakeResponse::Framing::kUntilClose;
    response.headers.emplace_back("Connection", "close");
  });
  server_.clear_log();
  server_.fault("GET", "/blobs/", FakeRegistry::kAlways,
                [](const FakeRequest&, FakeResponse& response) {
                  response.raw = "HTTP/1.1 206 OK\r\nContent-Length: 0\r\n";
                  response.end = FakeResponse::End::kReset;
                });
  expect_range_error(range(*registry, blob_, 1000, 100, 100), Errc::kUnavailable);
  EXPECT_EQ(server_.log().size(), 6u);
}

TEST_F(RegistryTest, TriesBusyServersAgainWithinLimits) {
  auto registry = open(options_for(server_));
  for (const int status : {429, 502, 503, 504}) {
    server_.fault("GET", "/blobs/", 5, [status](const FakeRequest&, FakeResponse& response) {
      response.status = status;
      response.set("Retry-After", "0");
    });
    EXPECT_EQ(*range(*registry, blob_, 1000, 1, 5), content_.substr(1, 5));
  }
  for (const char* nonsense : {"-5", "soon", "", "Sun, 06 Nov 1994 08:49:37 GMT"}) {
    server_.fault("GET", "/blobs/", 1, [&](const FakeRequest&, FakeResponse& response) {
      response.status = 429;
      response.set("Retry-After", nonsense);
    });
    EXPECT_EQ(*range(*registry, blob_, 1000, 1, 5), content_.substr(1, 5));
  }
  server_.clear_log();
  server_.fault("GET", "/blobs/", 6,
                [](const FakeRequest&, FakeResponse& response) { response.status = 503; });
  expect_range_error(range(*registry, blob_, 1000, 1, 5), Errc::kUnavailable);
  EXPECT_EQ(server_.log().size(), 6u);
  server_.fault("GET", "/blobs/", 1,
                [](const FakeRequest&, FakeResponse& response) { response.status = 500; });
  server_.clear_log();
  expect_range_error(range(*registry, blob_, 1000, 1, 5), Errc::kUnavailable);
  EXPECT_EQ(server_.log().size(), 1u);
}

TEST_F(RegistryTest, RetryAfterHoldsBackEveryRequest) {
  auto registry = open(options_for(server_));
  RegistryOptions options = options_for(server_);
  options.repository = "library/other";
  const auto elsewhere = open(options);
  server_.fault("GET", "/blobs/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.status = 429;
    response.set("Retry-After", "1");
  });
  const auto begin = std::chrono::steady_clock::now();
  std::promise<Result<Bytes>> answer;
  registry->read_range(blob_, 1000, 0, 5, Purpose::kOther,
                       [&](Result<Bytes> first) { answer.set_value(std::move(first)); });
  std::vector<std::promise<void>> others(6);
  EXPECT_TRUE(answer.get_future().get());
  for (std::size_t i = 0; i < others.size(); ++i) {
    (i % 2 == 0 ? registry : elsewhere)
        ->read_range(blob_, 1000, 0, 5, Purpose::kOther,
                     [&, i](const Result<Bytes>&) { others[i].set_value(); });
  }
  for (auto& other : others) other.get_future().wait();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(990));
  EXPECT_EQ(server_.log().size(), 8u);
}

TEST_F(RegistryTest, ImpatientCallersDoNotAskAnAilingServer) {
  RegistryOptions options = options_for(server_);
  options.patient = false;
  const auto impatient = open(options);
  const auto patient = open(options_for(server_));
  const auto health = http_.health(server_.endpoint());
  const auto later = std::chrono::steady_clock::now() + std::chrono::hours(1);
  for (int i = 0; i < 5; ++i) health->failed(later);
  expect_range_error(range(*impatient, blob_, 1000, 10, 20), Errc::kUnavailable);
  EXPECT_TRUE(server_.log().empty());
  EXPECT_TRUE(range(*patient, blob_, 1000, 10, 20)) << "who has nowhere else to ask tries";
  EXPECT_TRUE(range(*impatient, blob_, 1000, 10, 20)) << "and it has answered";
  health->hold_until(later);
  expect_range_error(range(*impatient, blob_, 1000, 10, 20), Errc::kUnavailable);
  EXPECT_EQ(server_.log().size(), 2u);
}

TEST_F(RegistryTest, ARangeThatDripsIsTriedAgain) {
  RegistryOptions options = options_for(server_);
  options.rate_window = std::chrono::milliseconds(100);
  const auto registry = open(options);
  const auto drip = [](const FakeRequest&, FakeResponse& response) {
    response.drip = std::chrono::milliseconds(20);
  };
  server_.fault("GET", "/blobs/", 2, drip);
  EXPECT_EQ(*range(*registry, blob_, 1000, 10, 500), content_.substr(10, 500));
  EXPECT_GE(server_.log().size(), 3u);
  server_.fault("GET", "/blobs/", FakeRegistry::kAlways, drip);
  expect_range_error(range(*registry, blob_, 1000, 10, 500), Errc::kTimeout);
}

TEST_F(RegistryTest, ARangeCanBeCancelled) {
  server_.fault("GET", "/blobs/", FakeRegistry::kAlways,
                [](const FakeRequest&, FakeResponse& response) {
                  response.send_at_most = 5;
                  response.end = FakeResponse::End::kStall;
                });
  auto registry = open(options_for(server_));
  std::promise<Result<Bytes>> answer;
  const Registry::Cancel cancel =
      registry->read_range(blob_, 1000, 0, 100, Purpose::kOther,
                           [&](Result<Bytes> bytes) { answer.set_value(std::move(bytes)); });
  registry = nullptr;
  cancel();
  const auto bytes = answer.get_future().get();
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code(), Errc::kCancelled);
  cancel();  // it is over: nothing happens
}

TEST_F(RegistryTest, MissingBlobsAreNamed) {
  auto registry = open(options_for(server_));
  const Digest absent = sha256("absent");
  auto result = range(*registry, absent, 10, 0, 10);
  expect_range_error(result, Errc::kNotFound);
  EXPECT_THAT(result.error().message(), HasSubstr(absent.to_string()));
  EXPECT_THAT(result.error().message(), HasSubstr(server_.host() + "/library/web"));
  EXPECT_THAT(result.error().message(), HasSubstr("BLOB_UNKNOWN"));
}

TEST_F(RegistryTest, ClosingTheClientAnswersPendingRanges) {
  const auto gate = std::make_shared<Gate>();
  server_.fault("GET", "/blobs/", FakeRegistry::kAlways,
                [gate](const FakeRequest&, FakeResponse&) { gate->pass(); });
  std::vector<std::promise<Errc>> answers(40);
  {
    HttpClient http;
    auto registry = Registry::open(http, options_for(server_));
    ASSERT_TRUE(registry);
    for (auto& answer : answers) {
      (*registry)->read_range(blob_, 1000, 0, 5, Purpose::kOther, [&](const Result<Bytes>& result) {
        answer.set_value(result ? Errc::kInternal : result.error().code());
      });
    }
    gate->wait_for(1);
  }
  for (auto& answer : answers) EXPECT_EQ(answer.get_future().get(), Errc::kCancelled);
  gate->open();
}

TEST_F(RegistryTest, FollowsRedirectsWithoutCredentials) {
  FakeRegistry storage;
  storage.add_blob(content_);
  server_.require_bearer("joe", "pw");
  server_.fault("GET", "/blobs/", FakeRegistry::kAlways,
                [&](const FakeRequest& request, FakeResponse& response) {
                  if (response.status == 206) {
                    response =
                        FakeResponse::redirect(storage.endpoint() + request.path + "?signature=1");
                  }
                });
  auto registry = open(options_for(server_, login(server_, "joe", "pw")));
  EXPECT_EQ(*range(*registry, blob_, 1000, 10, 20), content_.substr(10, 20));
  ASSERT_EQ(storage.log().size(), 1u);
  EXPECT_EQ(storage.log()[0].headers.count("authorization"), 0u);
  EXPECT_EQ(storage.log()[0].headers.count("cookie"), 0u);
  EXPECT_EQ(storage.log()[0].header("range"), "bytes=10-29");
  EXPECT_NE(registry->identity(), "");
}

TEST_F(RegistryTest, RemembersWhereABlobLiesUntilThatFails) {
  FakeRegistry storage;
  storage.add_blob(content_);
  int signature = 0;
  server_.fault("GET", "/blobs/", FakeRegistry::kAlways,
                [&](const FakeRequest& request, FakeResponse& response) {
                  response = FakeResponse::redirect(storage.endpoint() + request.path +
                                                    "?signature=" + std::to_string(++signature));
                });
  auto registry = open(options_for(server_));
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(*range(*registry, blob_, 1000, 10, 20), content_.substr(10, 20));
  }
  EXPECT_EQ(server_.log().size(), 1u);
  EXPECT_EQ(storage.log().size(), 5u);
  // Whether it is still to be had is for the registry to say.
  EXPECT_TRUE(range(*registry, blob_, 1000, 10, 1, Purpose::kLocate));
  EXPECT_EQ(server_.log().size(), 2u);
  EXPECT_EQ(storage.log().back().query, "signature=2");
  // The signature expires.
  storage.fault("GET", "", 1,
                [](const FakeRequest&, FakeResponse& response) { response.status = 403; });
  EXPECT_EQ(*range(*registry, blob_, 1000, 10, 20), content_.substr(10, 20));
  EXPECT_EQ(server_.log().size(), 3u);
  EXPECT_EQ(storage.log().back().query, "signature=3");
  // It has expired when it comes.
  storage.fault("GET", "", FakeRegistry::kAlways,
                [](const FakeRequest&, FakeResponse& response) { response.status = 403; });
  expect_range_error(range(*registry, blob_, 1000, 10, 20), Errc::kDenied);
  EXPECT_EQ(server_.log().size(), 4u);
}

TEST_F(RegistryTest, ForgetsWhereABlobLayWhenAnythingFailsThere) {
  FakeRegistry storage;
  storage.add_blob(content_);
  server_.fault("GET", "/blobs/", FakeRegistry::kAlways,
                [&](const FakeRequest& request, FakeResponse& response) {
                  response = FakeResponse::redirect(storage.endpoint() + request.path);
                });
  auto registry = open(options_for(server_));
  EXPECT_TRUE(range(*registry, blob_, 1000, 10, 20));
  std::size_t asked = 1;
  const std::vector<FakeRegistry::Change> failures = {
      [](const FakeRequest&, FakeResponse& response) { response.status = 500; },
      [](const FakeRequest&, FakeResponse& response) { response.status = 503; },
      [](const FakeRequest&, FakeResponse& response) { response.status = 404; },
      [](const FakeRequest&, FakeResponse& response) { response.status = 200; },
      [](const FakeRequest&, FakeResponse& response) {
        response.set("Content-Range", "bytes 0-19/1000");
      },
      [](const FakeRequest&, FakeResponse& response) { response.body.pop_back(); },
      [](const FakeRequest&, FakeResponse& response) {
        response.send_at_most = 3;
        response.end = FakeResponse::End::kReset;
      },
  };
  for (const auto& failure : failures) {
    storage.fault("GET", "", 1, failure);
    EXPECT_EQ(*range(*registry, blob_, 1000, 10, 20), content_.substr(10, 20)) << asked;
    EXPECT_EQ(server_.log().size(), ++asked);
    EXPECT_TRUE(range(*registry, blob_, 1000, 10, 20));
    EXPECT_EQ(server_.log().size(), asked) << "the new place is remembered";
  }
  registry->distrust(blob_);
  EXPECT_TRUE(range(*registry, blob_, 1000, 10, 20));
  EXPECT_EQ(server_.log().size(), ++asked) << "the bytes were wrong";
}

TEST_F(RegistryTest, FollowsNoMoreThanFiveRedirects) {
  auto registry = open(options_for(server_));
  int hops = 0;
  int wanted = 5;
  server_.fault("GET", "/blobs/", FakeRegistry::kAlways,
                [&](const FakeRequest& request, FakeResponse& response) {
                  if (hops++ < wanted) {
                    response =
                        FakeResponse::redirect(request.path + "?hop=" + std::to_string(hops), 302);
                  }
                });
  EXPECT_EQ(*range(*registry, blob_, 1000, 10, 20), content_.substr(10, 20));
  auto another = open(options_for(server_));
  hops = 0;
  wanted = 6;
  server_.clear_log();
  expect_range_error(range(*another, blob_, 1000, 10, 20), Errc::kInvalid);
  EXPECT_EQ(server_.log().size(), 6u);
}

TEST_F(RegistryTest, RefusesRedirectsToBadPlaces) {
  auto registry = open(options_for(server_));
  for (const char* target : {"file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/",
                             "http://user:pw@host/", "http://169.254.169.254/latest/meta-data/",
                             "http://[fe80::1]/", "http://224.0.0.1/", "", "http://"}) {
    server_.clear_faults();
    server_.fault("GET", "/blobs/", 1, [&](const FakeRequest&, FakeResponse& response) {
      response = FakeResponse::redirect(target);
    });
    expect_range_error(range(*registry, blob_, 1000, 10, 20), Errc::kDenied);
  }
}

TEST(RegistryTls, IsNeverLeftForPlainHttp) {
  test::FakeRegistryOptions with_tls;
  with_tls.tls = true;
  FakeRegistry server(with_tls);
  FakeRegistry plain;
  server.add_blob("content");
  plain.add_blob("content");
  HttpOptions options;
  options.ca_file = server.ca_file();
  HttpClient http(options);
  auto registry = Registry::open(http, options_for(server));
  ASSERT_TRUE(registry);
  EXPECT_EQ(*(*registry)->get_blob(descriptor_of("content"), 100), "content");
  server.fault("GET", "/blobs/", FakeRegistry::kAlways,
               [&](const FakeRequest& request, FakeResponse& response) {
                 response = FakeResponse::redirect(plain.endpoint() + request.path);
               });
  auto refused = (*registry)->get_blob(descriptor_of("content"), 100);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), Errc::kDenied);
  server.fault("POST", "/uploads/", FakeRegistry::kAlways,
               [&](const FakeRequest&, FakeResponse& response) {
                 response.set("Location", plain.endpoint() + "/v2/x/blobs/uploads/1");
               });
  const auto pushed = (*registry)->put_blob(as_bytes("new"), sha256("new"));
  ASSERT_FALSE(pushed);
  EXPECT_EQ(pushed.error().code(), Errc::kDenied);
  EXPECT_TRUE(plain.log().empty());
}

TEST(RegistryHost, IsAskedBelowItsRootWithNamespaceAndHeaders) {
  test::FakeRegistryOptions below;
  below.root = "/mirror/hub/";
  FakeRegistry server(below);
  server.add_blob("content");
  HttpClient http;
  RegistryOptions options = options_for(server);
  options.host.root = server.endpoint() + "/mirror/hub";
  options.host.name_space = "docker.io:5000";
  options.host.headers = {{"X-Team", "blue"}, {"accept", "image/png"}};
  auto registry = Registry::open(http, options);
  ASSERT_TRUE(registry);
  EXPECT_EQ((*registry)->name(), server.host() + "/library/web");
  EXPECT_EQ(*(*registry)->get_blob(descriptor_of("content"), 100), "content");
  EXPECT_EQ((*registry)->get_manifest("latest").error().code(), Errc::kNotFound);
  ASSERT_EQ(server.count("GET", "/mirror/hub/library/web/"), 2u);
  for (const FakeRequest& request : server.log()) {
    EXPECT_EQ(request.query, "ns=docker.io%3A5000");
    EXPECT_EQ(request.header("x-team"), "blue");
  }
  EXPECT_THAT(server.log().back().header("accept"), HasSubstr("application/vnd.oci"))
      << "what a request says itself wins";
  EXPECT_NE((*registry)->identity(), "") << "others may not be answered without the header";
}

TEST(RegistryHost, HeadersAreForItsOriginOnly) {
  FakeRegistry server;
  FakeRegistry elsewhere;
  elsewhere.add_blob("content");
  server.require_anonymous_bearer();
  server.set_realm(elsewhere.endpoint() + "/token");
  elsewhere.fault("GET", "/token", FakeRegistry::kAlways,
                  [](const FakeRequest&, FakeResponse& response) {
                    response = FakeResponse();
                    response.body = R"({"token": "t"})";
                  });
  server.fault("GET", "/blobs/", FakeRegistry::kAlways,
               [&](const FakeRequest& request, FakeResponse& response) {
                 if (request.header("authorization").starts_with("Bearer ")) {
                   response = FakeResponse::redirect(elsewhere.endpoint() + request.path);
                 }
               });
  HttpClient http;
  RegistryOptions options = options_for(server);
  options.host.headers = {{"X-Secret", "1"}, {"Authorization", "Basic c2VjcmV0"}};
  auto registry = Registry::open(http, options);
  ASSERT_TRUE(registry);
  EXPECT_EQ(*(*registry)->get_blob(descriptor_of("content"), 100), "content");
  const auto asked = server.log();
  ASSERT_EQ(asked.size(), 2u);
  EXPECT_EQ(asked[0].header("authorization"), "Basic c2VjcmV0");
  EXPECT_EQ(asked[1].header("authorization"), "Bearer t") << "what was asked for wins";
  EXPECT_EQ(asked[1].header("x-secret"), "1");
  EXPECT_EQ(elsewhere.count("GET", "/"), 2u);
  for (const FakeRequest& request : elsewhere.log()) {
    EXPECT_EQ(request.header("x-secret"), "") << request.path;
    EXPECT_EQ(request.header("authorization"), "") << request.path;
  }
}

class RegistryHostTls : public ::testing::Test {
 protected:
  // Reads a blob with these settings, and from the start each time.
  static Status read(const FakeRegistry& server, const Tls& tls) {
    RegistryOptions options = options_for(server);
    options.host.tls = tls;
    HttpClient http;
    auto registry = Registry::open(http, options);
    if (!registry) return registry.error();
    auto content = (*registry)->get_blob(descriptor_of("content"), 100);
    return content ? Status() : content.error();
  }
  static std::string pem(const FakeRegistry& server) {
    return std::string(as_text(*read_file(server.ca_file(), 1 << 20)));
  }
};

TEST_F(RegistryHostTls, ItsAuthoritiesAreTrusted) {
  test::FakeRegistryOptions with_tls;
  with_tls.tls = true;
  FakeRegistry server(with_tls);
  FakeRegistry other(with_tls);
  server.add_blob("content");
  Tls tls;
  EXPECT_EQ(read(server, tls).error().code(), Errc::kDenied);
  tls.authorities = pem(other);
  EXPECT_EQ(read(server, tls).error().code(), Errc::kDenied);
  tls.authorities = pem(other) + pem(server);
  EXPECT_TRUE(read(server, tls));
  tls.authorities = "-----BEGIN CERTIFICATE-----\nnone\n";
  EXPECT_FALSE(read(server, tls));
}

TEST_F(RegistryHostTls, VerificationIsSkippedThereAndNowhereElse) {
  test::FakeRegistryOptions with_tls;
  with_tls.tls = true;
  with_tls.certificate_subject = "DNS:other.example";
  FakeRegistry server(with_tls);
  FakeRegistry storage(with_tls);
  server.add_blob("content");
  storage.add_blob("content");
  Tls tls;
  tls.verify = false;
  EXPECT_TRUE(read(server, tls));
  server.fault("GET", "/blobs/", FakeRegistry::kAlways,
               [&](const FakeRequest& request, FakeResponse& response) {
                 response = FakeResponse::redirect(storage.endpoint() + request.path);
               });
  EXPECT_EQ(read(server, tls).error().code(), Errc::kDenied);
  EXPECT_TRUE(storage.log().empty());
}

TEST_F(RegistryHostTls, ACertificateIsShownThereAndNowhereElse) {
  const test::TlsIdentity identity = test::make_tls_identity("DNS:node.example", false);
  test::FakeRegistryOptions with_tls;
  with_tls.tls = true;
  with_tls.client_certificate = identity.certificate_pem;
  FakeRegistry server(with_tls);
  FakeRegistry storage(with_tls);
  server.add_blob("content");
  storage.add_blob("content");
  Tls tls;
  tls.authorities = pem(server) + pem(storage);
  EXPECT_FALSE(read(server, tls));
  EXPECT_TRUE(server.log().empty());
  tls.certificate = identity.certificate_pem;
  tls.key = identity.key_pem;
  EXPECT_TRUE(read(server, tls));
  server.fault("GET", "/blobs/", FakeRegistry::kAlways,
               [&](const FakeRequest& request, FakeResponse& response) {
                 response = FakeResponse::redirect(storage.endpoint() + request.path);
               });
  EXPECT_FALSE(read(server, tls));
  EXPECT_TRUE(storage.log().empty());
}

TEST_F(RegistryHostTls, ConnectionsAreNotSharedWithOtherSettings) {
  test::FakeRegistryOptions with_tls;
  with_tls.tls = true;
  FakeRegistry server(with_tls);
  server.add_blob("content");
  HttpClient http;
  RegistryOptions options = options_for(server);
  options.host.tls.authorities = pem(server);
  auto trusting = *Registry::open(http, options);
  EXPECT_TRUE(trusting->get_blob(descriptor_of("content"), 100));
  auto plain = *Registry::open(http, options_for(server));
  EXPECT_EQ(plain->get_blob(descriptor_of("content"), 100).error().code(), Errc::kDenied);
}

TEST(RegistryTls, CredentialsGoToNoPlainOrNumericRealm) {
  test::FakeRegistryOptions with_tls;
  with_tls.tls = true;
  FakeRegistry server(with_tls);
  FakeRegistry plain;
  TempDir dir;
  const auto config =
      dir.write("config.json", "{\"auths\":{\"" + server.host() +
                                   "\":{\"username\":\"joe\",\"password\":\"pw\"}}}");
  HttpOptions options;
  options.ca_file = server.ca_file();
  HttpClient http(options);
  server.require_bearer("joe", "pw");
  for (const std::string& realm :
       {plain.endpoint() + "/token", std::string("https://127.0.0.2/token"),
        std::string("https://[::1]/token"), std::string("https://169.254.169.254/token"),
        std::string("file:///token"), std::string("https://a:b@host/token"),
        std::string("token")}) {
    server.set_realm(realm);
    auto registry = Registry::open(http, options_for(server, config));
    ASSERT_TRUE(registry);
    auto manifest = (*registry)->get_manifest("latest");
    ASSERT_FALSE(manifest) << realm;
    EXPECT_EQ(manifest.error().code(), Errc::kDenied) << realm;
    EXPECT_EQ((*registry)->identity(), "") << realm;
  }
  EXPECT_TRUE(plain.log().empty());
  server.set_realm(server.endpoint() + "/token");
  auto registry = Registry::open(http, options_for(server, config));
  ASSERT_TRUE(registry);
  EXPECT_EQ((*registry)->get_manifest("latest").error().code(), Errc::kNotFound);
  EXPECT_NE((*registry)->identity(), "");
}

TEST_F(RegistryTest, LogsInWithBasic) {
  server_.require_basic("joe", "pw");
  auto registry = open(options_for(server_, login(server_, "joe", "pw")));
  EXPECT_EQ(registry->identity(), "");
  EXPECT_EQ(*range(*registry, blob_, 1000, 0, 5), content_.substr(0, 5));
  EXPECT_EQ(*range(*registry, blob_, 1000, 5, 5), content_.substr(5, 5));
  EXPECT_EQ(server_.log().size(), 3u);  // one refusal, then the credential is sent at once
  EXPECT_NE(registry->identity(), "");
}

TEST_F(RegistryTest, WrongOrMissingLoginIsDenied) {
  server_.require_basic("joe", "pw");
  for (const auto& config : {login(server_, "joe", "no"), std::filesystem::path("/nonexistent")}) {
    auto registry = open(options_for(server_, config));
    server_.clear_log();
    expect_range_error(range(*registry, blob_, 1000, 0, 5), Errc::kDenied);
    EXPECT_LE(server_.log().size(), 2u);
  }
}

// What came for one credential must not be taken for what came for the next.
TEST_F(RegistryTest, AnswersOfTwoCredentialsAreNotMistaken) {
  server_.require_basic("joe", "pw");
  auto registry = open(options_for(server_, login(server_, "joe", "pw")));
  EXPECT_EQ(*range(*registry, blob_, 1000, 0, 5), content_.substr(0, 5));
  const std::string joe = registry->identity();
  Gate gate;
  server_.fault("GET", "/blobs/", 1, [&](const FakeRequest&, FakeResponse&) { gate.pass(); });
  std::promise<std::string> answered_for;
  registry->read_range(blob_, 1000, 0, 5, Purpose::kOther,
                       [&](const Result<Bytes>&) { answered_for.set_value(registry->identity()); });
  gate.wait_for(1);
  login(server_, "ann", "pw2");
  server_.require_basic("ann", "pw2");
  EXPECT_EQ(*range(*registry, blob_, 1000, 5, 5), content_.substr(5, 5));
  const std::string ann = registry->identity();
  EXPECT_NE(ann, joe);
  server_.clear_log();
  gate.open();
  EXPECT_EQ(answered_for.get_future().get(), ann);
  EXPECT_EQ(server_.count("GET", "/blobs/"), 1u) << "asked for again, as ann";
}

TEST_F(RegistryTest, AnonymousTokensAreNoCredential) {
  server_.require_anonymous_bearer();
  auto registry = open(options_for(server_));
  EXPECT_EQ(*range(*registry, blob_, 1000, 0, 5), content_.substr(0, 5));
  EXPECT_EQ(registry->identity(), "");
  EXPECT_EQ(server_.count("GET", "/token"), 1u);
}

TEST_F(RegistryTest, ManyRequestsShareOneToken) {
  server_.require_bearer("joe", "pw");
  auto registry = open(options_for(server_, login(server_, "joe", "pw")));
  constexpr int kRequests = 40;
  const auto read_many = [&] {
    // The token is held back until a request has been refused; others are refused before it comes
    // or after, or wait for it from the start.
    const auto token = std::make_shared<Gate>();
    const auto refusals = std::make_shared<Gate>();
    refusals->open();
    server_.clear_faults();
    server_.fault("GET", "/blobs/", FakeRegistry::kAlways,
                  [refusals](const FakeRequest&, FakeResponse&) { refusals->pass(); });
    server_.fault("GET", "/token", FakeRegistry::kAlways,
                  [token](const FakeRequest&, FakeResponse&) { token->pass(); });
    std::vector<std::promise<bool>> answers(kRequests);
    for (auto& answer : answers) {
      registry->read_range(blob_, 1000, 0, 5, Purpose::kOther, [&](const Result<Bytes>& result) {
        answer.set_value(result.has_value());
      });
    }
    refusals->wait_for(1);
    token->open();
    for (auto& answer : answers) EXPECT_TRUE(answer.get_future().get());
  };
  read_many();
  EXPECT_EQ(server_.count("GET", "/token"), 1u);
  server_.expire_tokens();
  read_many();
  EXPECT_EQ(server_.count("GET", "/token"), 2u);
  server_.clear_faults();
}

TEST_F(RegistryTest, GivesUpOnTokensThatDoNotHelp) {
  server_.require_bearer("joe", "pw");
  auto registry = open(options_for(server_, login(server_, "joe", "pw")));
  server_.fault("GET", "/token", FakeRegistry::kAlways,
                [&](const FakeRequest&, FakeResponse&) { server_.expire_tokens(); });
  expect_range_error(range(*registry, blob_, 1000, 0, 5), Errc::kDenied);
  EXPECT_EQ(server_.count("GET", "/token"), 2u);
}

TEST_F(RegistryTest, MessagesShowNoSecrets) {
  server_.require_bearer("joe", "hunter2");
  server_.fault("GET", "/token", FakeRegistry::kAlways,
                [&](const FakeRequest&, FakeResponse& response) {
                  response.body = "{\"token\": \"hunter3\" broken";
                });
  auto registry = open(options_for(server_, login(server_, "joe", "hunter2")));
  auto result = range(*registry, blob_, 1000, 0, 5);
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message(), Not(HasSubstr("hunter")));
}

std::string manifest_text(std::string_view type = media_type::kOciManifest) {
  const Json descriptor = descriptor_of("x").to_json();
  return Json{{"schemaVersion", 2},
              {"mediaType", type},
              {"config", descriptor},
              {"layers", Json::array({descriptor})}}
      .dump();
}

TEST_F(RegistryTest, GetsManifestsByTagAndDigest) {
  const std::string text = manifest_text();
  const Digest digest =
      server_.add_manifest("library/web", "v1", std::string(media_type::kOciManifest), text);
  auto registry = open(options_for(server_));
  for (const std::string& name : {std::string("v1"), digest.to_string()}) {
    auto document = registry->get_manifest(name);
    ASSERT_TRUE(document) << document.error().message();
    EXPECT_EQ(document->bytes, text);
    EXPECT_EQ(document->digest, digest);
    EXPECT_EQ(document->media_type, media_type::kOciManifest);
  }
  const std::string accept = server_.log().at(0).header("accept");
  for (const auto type : {media_type::kOciManifest, media_type::kOciIndex,
                          media_type::kDockerManifest, media_type::kDockerIndex}) {
    EXPECT_THAT(accept, HasSubstr(std::string(type)));
  }
  EXPECT_EQ(registry->get_manifest("v2").error().code(), Errc::kNotFound);
}

TEST_F(RegistryTest, HashesTheManifestAndNotTheHeader) {
  const std::string text = manifest_text();
  const Digest digest =
      server_.add_manifest("library/web", "v1", std::string(media_type::kOciManifest), text);
  auto registry = open(options_for(server_));
  server_.fault("GET", "/manifests/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.set("Docker-Content-Digest", sha256("lie").to_string());
  });
  EXPECT_EQ(registry->get_manifest("v1")->digest, digest);
  server_.fault("GET", "/manifests/", 1,
                [](const FakeRequest&, FakeResponse& response) { response.body += " "; });
  auto changed = registry->get_manifest(digest.to_string());
  ASSERT_FALSE(changed);
  EXPECT_EQ(changed.error().code(), Errc::kCorrupt);
}

TEST_F(RegistryTest, RefusesWhatIsNoManifest) {
  server_.add_manifest("library/web", "v1", std::string(media_type::kOciManifest), manifest_text());
  auto registry = open(options_for(server_));
  const std::pair<const char*, FakeRegistry::Change> cases[] = {
      {"html",
       [](const FakeRequest&, FakeResponse& response) {
         response.set("Content-Type", "text/html");
         response.body = "<html>";
       }},
      {"html that calls itself a manifest",
       [](const FakeRequest&, FakeResponse& response) { response.body = "<html>"; }},
      {"another type in the header",
       [](const FakeRequest&, FakeResponse& response) {
         response.set("Content-Type", std::string(media_type::kOciIndex));
       }},
      {"docker's first format",
       [](const FakeRequest&, FakeResponse& response) {
         response.set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws");
         response.body = "{\"schemaVersion\":1}";
       }},
      {"no type at all",
       [](const FakeRequest&, FakeResponse& response) {
         response.remove("Content-Type");
         response.body = "{}";
       }},
      {"too large",
       [](const FakeRequest&, FakeResponse& response) { response.body.resize(5u << 20, ' '); }},
      {"too large, without a length",
       [](const FakeRequest&, FakeResponse& response) {
         response.endless = true;
         response.body = std::string(1u << 16, ' ');
       }},
      {"too deep", [](const FakeRequest&,
                      FakeResponse& response) { response.body = std::string(100'000, '['); }},
  };
  for (const auto& [name, change] : cases) {
    server_.clear_faults();
    server_.fault("GET", "/manifests/", 1, change);
    auto document = registry->get_manifest("v1");
    ASSERT_FALSE(document) << name;
    EXPECT_EQ(document.error().code(), Errc::kInvalid) << name << document.error().message();
    EXPECT_EQ(document.error().message().find('\n'), std::string::npos);
  }
  server_.clear_faults();
  server_.fault("GET", "/manifests/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.set("Content-Type", std::string(media_type::kOciManifest) + "; charset=utf-8");
  });
  EXPECT_TRUE(registry->get_manifest("v1"));
}

TEST_F(RegistryTest, AsksForTagsAndDigestsOnly) {
  auto registry = open(options_for(server_));
  for (const char* name : {"", "../secret", "a/b", "a?b", "a b", "sha256:12", "-x"}) {
    auto document = registry->get_manifest(name);
    ASSERT_FALSE(document) << name;
    EXPECT_EQ(document.error().code(), Errc::kInvalid);
  }
  EXPECT_FALSE(registry->put_manifest({}, "../secret"));
  EXPECT_TRUE(server_.log().empty());
}

TEST_F(RegistryTest, PutsManifests) {
  auto registry = open(options_for(server_));
  Document document;
  document.media_type = media_type::kOciManifest;
  document.bytes = manifest_text();
  document.digest = sha256(document.bytes);
  ASSERT_TRUE(registry->put_manifest(document, "v1"));
  EXPECT_EQ(server_.manifest("library/web", "v1"), document.bytes);
  EXPECT_EQ(server_.log().at(0).header("content-type"), media_type::kOciManifest);
  ASSERT_TRUE(registry->put_manifest(document, ""));
  EXPECT_THAT(server_.log().at(1).path, HasSubstr(document.digest.to_string()));
  server_.fault("PUT", "/manifests/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.set("Docker-Content-Digest", sha256("other").to_string());
  });
  EXPECT_EQ(registry->put_manifest(document, "v1").error().code(), Errc::kCorrupt);
  server_.fault("PUT", "/manifests/", 2,
                [](const FakeRequest&, FakeResponse& response) { response.status = 503; });
  EXPECT_TRUE(registry->put_manifest(document, "v1"));
}

class ReferrersTest : public RegistryTest {
 protected:
  // Puts a manifest that refers to `subject_`.
  Descriptor put_referrer(Registry& registry, const std::string& kind) {
    Manifest manifest;
    manifest.media_type = media_type::kOciManifest;
    manifest.artifact_type = "application/vnd.example." + kind;
    manifest.config = descriptor_of("{}");
    manifest.subject = descriptor_of("subject");
    manifest.annotations = {{"kind", kind}};
    Document document;
    document.media_type = manifest.media_type;
    document.bytes = manifest.to_json().dump();
    document.digest = sha256(document.bytes);
    EXPECT_TRUE(registry.put_manifest(document, ""));
    Descriptor descriptor;
    descriptor.media_type = document.media_type;
    descriptor.digest = document.digest;
    descriptor.size = document.bytes.size();
    descriptor.artifact_type = manifest.artifact_type;
    descriptor.annotations = manifest.annotations;
    return descriptor;
  }
  std::vector<std::string> kinds(Registry& registry) {
    auto referrers = registry.get_referrers(subject_);
    EXPECT_TRUE(referrers) << referrers.error().message();
    std::vector<std::string> list;
    if (!referrers) return list;
    for (const Descriptor& one : *referrers) list.push_back(one.annotations.at("kind"));
    return list;
  }

  const Digest subject_ = sha256("subject");
  const std::string tag_ = "sha256-" + subject_.hex();
};

TEST_F(ReferrersTest, AreKeptByTheRegistryWhenItCan) {
  auto registry = open(options_for(server_));
  EXPECT_TRUE(kinds(*registry).empty());
  const Descriptor first = put_referrer(*registry, "first");
  server_.clear_log();
  ASSERT_TRUE(registry->add_referrer(subject_, first));
  EXPECT_TRUE(server_.log().empty());
  EXPECT_THAT(kinds(*registry), ::testing::ElementsAre("first"));
  // Somebody who has not put it asks whether the registry keeps referrers.
  auto another = open(options_for(server_));
  ASSERT_TRUE(another->add_referrer(subject_, first));
  EXPECT_FALSE(server_.manifest("library/web", tag_));
}

TEST_F(ReferrersTest, AreKeptUnderATagElsewhere) {
  server_.enable_referrers(false);
  auto registry = open(options_for(server_));
  EXPECT_TRUE(kinds(*registry).empty());
  const Descriptor first = put_referrer(*registry, "first");
  const Descriptor second = put_referrer(*registry, "second");
  ASSERT_TRUE(registry->add_referrer(subject_, first));
  ASSERT_TRUE(registry->add_referrer(subject_, second));
  const auto before = server_.manifest("library/web", tag_);
  ASSERT_TRUE(registry->add_referrer(subject_, first));
  EXPECT_EQ(server_.manifest("library/web", tag_), before);
  EXPECT_THAT(kinds(*registry), ::testing::ElementsAre("first", "second"));
  const auto listed = registry->get_referrers(subject_);
  EXPECT_EQ((*listed)[1].artifact_type, "application/vnd.example.second");
}

TEST_F(ReferrersTest, SurviveARace) {
  server_.enable_referrers(false);
  auto registry = open(options_for(server_));
  const Descriptor first = put_referrer(*registry, "first");
  const Descriptor second = put_referrer(*registry, "second");
  // Somebody else reads and writes between our reading and our writing, and ends last.
  server_.fault("PUT", "/manifests/" + tag_, 1, [&](const FakeRequest&, FakeResponse&) {
    Index theirs;
    theirs.media_type = media_type::kOciIndex;
    theirs.manifests = {second};
    server_.add_manifest("library/web", tag_, theirs.media_type, theirs.to_json().dump());
  });
  ASSERT_TRUE(registry->add_referrer(subject_, first));
  EXPECT_THAT(kinds(*registry), ::testing::ElementsAre("second", "first"));
}

TEST_F(ReferrersTest, ComeInPages) {
  auto registry = open(options_for(server_));
  put_referrer(*registry, "first");
  server_.fault("GET", "/referrers/", 1, [](const FakeRequest& request, FakeResponse& response) {
    response.set("Link", "<" + request.path + "?page=2>; rel=\"next\"");
  });
  EXPECT_THAT(kinds(*registry), ::testing::ElementsAre("first", "first"));
  server_.fault("GET", "/referrers/", FakeRegistry::kAlways,
                [](const FakeRequest& request, FakeResponse& response) {
                  response.set("Link", "<" + request.path + ">; rel=next");
                });
  EXPECT_FALSE(registry->get_referrers(subject_));
  server_.clear_faults();
  server_.fault("GET", "/referrers/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.set("Link", "<http://127.0.0.1:1/x>; rel=\"next\"");
  });
  EXPECT_FALSE(registry->get_referrers(subject_));
}

TEST_F(ReferrersTest, FallBackWhenTheAnswerIsNoIndex) {
  server_.enable_referrers(false);
  auto registry = open(options_for(server_));
  ASSERT_TRUE(registry->add_referrer(subject_, put_referrer(*registry, "first")));
  server_.fault("GET", "/referrers/", 1, [](const FakeRequest&, FakeResponse& response) {
    response = FakeResponse();
    response.set("Content-Type", "text/html");
    response.body = "<html>";
  });
  EXPECT_THAT(kinds(*registry), ::testing::ElementsAre("first"));
  server_.fault("GET", "/referrers/", 1,
                [](const FakeRequest&, FakeResponse& response) { response.status = 500; });
  EXPECT_FALSE(registry->get_referrers(subject_));
}

TEST(RegistryOpen, ChecksItsOptions) {
  HttpClient http;
  RegistryOptions options;
  options.repository = "a/b";
  for (const char* root :
       {"", "registry.example", "ftp://registry.example", "https://registry.example/",
        "https://registry.example/v2?a=b", "https://user:pw@registry.example"}) {
    options.host.root = root;
    EXPECT_FALSE(Registry::open(http, options)) << root;
  }
  options.host.root = "https://registry.example/v2/mirror";
  for (const char* repository : {"", "A", "a//b", "../b", "a?b"}) {
    options.repository = repository;
    EXPECT_FALSE(Registry::open(http, options)) << repository;
  }
}

TEST(HostOf, IsWhereTheSpecificationHasTheApi) {
  EXPECT_EQ(host_of("docker.io", false).root, "https://registry-1.docker.io/v2");
  EXPECT_EQ(host_of("index.docker.io", false).root, "https://registry-1.docker.io/v2");
  EXPECT_EQ(host_of("127.0.0.1:5000", true).root, "http://127.0.0.1:5000/v2");
  EXPECT_EQ(host_of("127.0.0.1:5000", false).root, "https://127.0.0.1:5000/v2");
}

TEST(HostName, IsWhatReferencesAndCredentialsSay) {
  EXPECT_EQ(host_of("docker.io", false).name(), "docker.io");
  EXPECT_EQ(host_of("[::1]:5000", true).name(), "[::1]:5000");
  Host host;
  host.root = "https://mirror.example/v2/some/path";
  EXPECT_EQ(host.name(), "mirror.example");
}

}  // namespace
}  // namespace imsy::oci
