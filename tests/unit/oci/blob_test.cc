// Blobs of a registry as streams, and their uploads.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/oci/support.h"

namespace imsy::oci {
namespace {

using test::FakeRegistry;
using test::FakeRequest;
using test::FakeResponse;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::size_t kMiB = 1u << 20;

class BlobTest : public ::testing::Test {
 protected:
  BlobTest() {
    auto registry = Registry::open(http_, options_for(server_));
    EXPECT_TRUE(registry);
    registry_ = *registry;
  }
  Result<std::string> fetch(const Descriptor& descriptor) {
    IMSY_TRY_ASSIGN(const auto reader, registry_->open_blob(descriptor));
    return read_all(*reader);
  }
  void expect_error(const Descriptor& descriptor, Errc code) {
    auto result = fetch(descriptor);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code(), code) << result.error().message();
    EXPECT_THAT(result.error().message(), HasSubstr(descriptor.digest.to_string()));
  }
  Result<Arrival> push(const std::string& content) {
    IMSY_TRY_ASSIGN(const auto writer, registry_->create_blob());
    // In pieces that do not fit the pieces of the upload.
    for (std::size_t at = 0; at < content.size(); at += 300'007) {
      IMSY_TRY(writer->write(as_bytes(std::string_view(content).substr(at, 300'007))));
    }
    return writer->commit(sha256(content));
  }
  // "METHOD size" of every request so far.
  std::vector<std::string> requests() const {
    std::vector<std::string> list;
    for (const FakeRequest& request : server_.log()) {
      list.push_back(request.method + " " + std::to_string(request.body_size));
    }
    return list;
  }

  FakeRegistry server_;
  HttpClient http_;
  std::shared_ptr<Registry> registry_;
};

TEST_F(BlobTest, IsReadToItsEnd) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{70'001}, 9 * kMiB}) {
    const std::string content = noise(size);
    server_.add_blob(content);
    auto result = fetch(descriptor_of(content));
    ASSERT_TRUE(result) << result.error().message();
    EXPECT_TRUE(*result == content) << size;
  }
}

TEST_F(BlobTest, EndIsReportedAgain) {
  server_.add_blob("abc");
  auto reader = registry_->open_blob(descriptor_of("abc"));
  ASSERT_TRUE(reader);
  EXPECT_EQ(*read_all(**reader), "abc");
  std::byte buffer[8];
  EXPECT_EQ(*(*reader)->read(buffer), 0u);
}

TEST_F(BlobTest, MissingIsReportedWhenOpened) {
  auto reader = registry_->open_blob(descriptor_of("absent"));
  ASSERT_FALSE(reader);
  EXPECT_EQ(reader.error().code(), Errc::kNotFound);
}

TEST_F(BlobTest, OtherContentIsCorrupt) {
  const std::string content = noise(5000);
  std::string flipped = content;
  flipped[2500] = static_cast<char>(flipped[2500] ^ 1);
  server_.set_blob(sha256(content), flipped);
  expect_error(descriptor_of(content), Errc::kCorrupt);
  server_.set_blob(sha256(content), content + "x");
  expect_error(descriptor_of(content), Errc::kCorrupt);
  server_.set_blob(sha256(""), "x");
  Descriptor one = descriptor_of("");
  one.size = 1;
  expect_error(one, Errc::kCorrupt);
}

TEST_F(BlobTest, AShorterOneIsAnError) {
  const std::string content = noise(5000);
  server_.set_blob(sha256(content), content.substr(0, 4000));
  EXPECT_FALSE(fetch(descriptor_of(content)));
  server_.set_blob(sha256(content), "");
  EXPECT_FALSE(fetch(descriptor_of(content)));
}

TEST_F(BlobTest, AnEndlessOneIsNotFollowed) {
  const std::string content = noise(5000);
  server_.add_blob(content);
  server_.fault("GET", "/blobs/", 1,
                [](const FakeRequest&, FakeResponse& response) { response.endless = true; });
  // The reader may be done, with all the right bytes, before one too many arrives.
  auto result = fetch(descriptor_of(content));
  if (result) {
    EXPECT_EQ(*result, content);
  } else {
    EXPECT_EQ(result.error().code(), Errc::kCorrupt) << result.error().message();
  }
}

TEST_F(BlobTest, AnEncodedOneIsAnError) {
  const std::string content = noise(5000);
  server_.add_blob(content);
  server_.fault("GET", "/blobs/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.set("Content-Encoding", "gzip");
  });
  expect_error(descriptor_of(content), Errc::kInvalid);
}

TEST_F(BlobTest, IsResumedWhereverItBreaks) {
  const std::string content = noise(60);
  server_.add_blob(content);
  for (std::size_t cut = 0; cut < content.size(); ++cut) {
    server_.clear_log();
    server_.fault("GET", "/blobs/", 1, [cut](const FakeRequest&, FakeResponse& response) {
      response.send_at_most = cut;
      response.end = cut % 2 == 0 ? FakeResponse::End::kReset : FakeResponse::End::kClose;
    });
    auto result = fetch(descriptor_of(content));
    ASSERT_TRUE(result) << cut << ": " << result.error().message();
    EXPECT_TRUE(*result == content) << cut;
    EXPECT_EQ(server_.log().size(), 2u) << cut;
  }
}

TEST_F(BlobTest, ResumesAskForTheRestOnly) {
  const std::string content = noise(3 * kMiB);
  server_.add_blob(content);
  // Each answer breaks after 100 KiB of what it should send.
  server_.fault("GET", "/blobs/", 20, [](const FakeRequest&, FakeResponse& response) {
    response.send_at_most = 100u << 10;
    response.end = FakeResponse::End::kClose;
  });
  auto result = fetch(descriptor_of(content));
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_TRUE(*result == content);
  const auto log = server_.log();
  ASSERT_EQ(log.size(), 21u);
  EXPECT_EQ(log[0].header("range"), "");
  EXPECT_EQ(log[20].header("range"), "bytes=2048000-3145727");
}

TEST_F(BlobTest, GivesUpWithoutProgress) {
  const std::string content = noise(1000);
  server_.add_blob(content);
  server_.fault("GET", "/blobs/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.send_at_most = 100;
    response.end = FakeResponse::End::kReset;
  });
  server_.fault("GET", "/blobs/", FakeRegistry::kAlways,
                [](const FakeRequest&, FakeResponse& response) {
                  response.status = 206;
                  response.send_at_most = 0;
                  response.end = FakeResponse::End::kReset;
                });
  expect_error(descriptor_of(content), Errc::kUnavailable);
}

TEST_F(BlobTest, AResumeMayBringEverythingAgain) {
  const std::string content = noise(200'000);
  server_.add_blob(content);
  server_.fault("GET", "/blobs/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.send_at_most = 123'456;
    response.end = FakeResponse::End::kClose;
  });
  server_.fault("GET", "/blobs/", 1, [&](const FakeRequest&, FakeResponse& response) {
    response.status = 200;
    response.remove("Content-Range");
    response.body = content;
  });
  auto result = fetch(descriptor_of(content));
  ASSERT_TRUE(result) << result.error().message();
  EXPECT_TRUE(*result == content);
}

TEST_F(BlobTest, AResumeWithAnotherRangeIsAnError) {
  const std::string content = noise(1000);
  server_.add_blob(content);
  server_.fault("GET", "/blobs/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.send_at_most = 500;
    response.end = FakeResponse::End::kClose;
  });
  server_.fault("GET", "/blobs/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.set("Content-Range", "bytes 501-999/1000");
  });
  expect_error(descriptor_of(content), Errc::kInvalid);
}

TEST_F(BlobTest, IsNotFetchedFarAhead) {
  const std::string content = noise(32 * kMiB);
  server_.add_blob(content);
  auto reader = registry_->open_blob(descriptor_of(content));
  ASSERT_TRUE(reader);
  Bytes buffer(100'000);
  std::string text;
  for (;;) {
    auto got = (*reader)->read(buffer);
    ASSERT_TRUE(got) << got.error().message();
    if (*got == 0) break;
    text += as_text(ByteSpan(buffer).first(*got));
    EXPECT_LE(http_.counters().bytes_received, text.size() + 5 * kMiB);
  }
  EXPECT_TRUE(text == content);
}

TEST_F(BlobTest, ReadersMayBeDropped) {
  const std::string content = noise(6 * kMiB);
  server_.add_blob(content);
  // More of them than there are connections: each gives its own back.
  for (int i = 0; i < 20; ++i) {
    auto reader = registry_->open_blob(descriptor_of(content));
    ASSERT_TRUE(reader);
    std::byte buffer[10];
    EXPECT_TRUE((*reader)->read(buffer));
  }
}

TEST_F(BlobTest, SmallOnesAreReadWhole) {
  server_.add_blob("small");
  EXPECT_EQ(*registry_->get_blob(descriptor_of("small"), 5), "small");
  EXPECT_EQ(registry_->get_blob(descriptor_of("small"), 4).error().code(), Errc::kInvalid);
}

TEST_F(BlobTest, IsLookedFor) {
  const Digest digest = server_.add_blob("here");
  EXPECT_TRUE(*registry_->has_blob(digest, 4));
  EXPECT_FALSE(*registry_->has_blob(digest, 5));
  EXPECT_FALSE(*registry_->has_blob(sha256("absent"), 4));
  server_.fault("HEAD", "/blobs/", 1,
                [](const FakeRequest&, FakeResponse& response) { response.status = 500; });
  EXPECT_FALSE(registry_->has_blob(digest, 4));
}

TEST_F(BlobTest, SmallUploadTakesOneRequestAfterThePost) {
  ASSERT_TRUE(registry_->put_blob(as_bytes("content"), sha256("content")));
  EXPECT_THAT(requests(), ElementsAre("HEAD 0", "POST 0", "PUT 7"));
  EXPECT_EQ(server_.blob(sha256("content")), "content");
  server_.clear_log();
  EXPECT_EQ(*registry_->put_blob(as_bytes("content"), sha256("content")), Arrival::kWasThere);
  EXPECT_THAT(requests(), ElementsAre("HEAD 0"));
  ASSERT_TRUE(push(""));
  EXPECT_EQ(server_.blob(sha256("")), "");
}

TEST_F(BlobTest, LargeUploadGoesInPieces) {
  const std::string content = noise(20 * kMiB);
  const auto pushed = push(content);
  ASSERT_TRUE(pushed) << pushed.error().message();
  EXPECT_THAT(requests(),
              ElementsAre("POST 0", "PATCH 8388608", "PATCH 8388608", "PATCH 4194304", "PUT 0"));
  EXPECT_EQ(server_.log().at(2).header("content-range"), "8388608-16777215");
  EXPECT_TRUE(server_.blob(sha256(content)) == content);
}

TEST_F(BlobTest, UploadOfExactlyOnePiece) {
  const std::string content = noise(8 * kMiB);
  ASSERT_TRUE(push(content));
  EXPECT_THAT(requests(), ElementsAre("POST 0", "PATCH 8388608", "PUT 0"));
  EXPECT_TRUE(server_.blob(sha256(content)) == content);
}

TEST_F(BlobTest, UploadObeysTheRegistrysLeastPiece) {
  server_.set_chunk_min_length(12 * kMiB);
  const std::string content = noise(30 * kMiB);
  const auto pushed = push(content);
  ASSERT_TRUE(pushed) << pushed.error().message();
  EXPECT_THAT(requests(),
              ElementsAre("POST 0", "PATCH 12582912", "PATCH 12582912", "PATCH 6291456", "PUT 0"));
  EXPECT_TRUE(server_.blob(sha256(content)) == content);
  server_.set_chunk_min_length(std::uint64_t{1} << 40);
  EXPECT_EQ(push(content).error().code(), Errc::kInvalid);
}

TEST_F(BlobTest, UploadGoesOnWhereAPieceBroke) {
  const std::string content = noise(20 * kMiB);
  server_.break_next_patch(3 * kMiB + 17);
  const auto pushed = push(content);
  ASSERT_TRUE(pushed) << pushed.error().message();
  EXPECT_TRUE(server_.blob(sha256(content)) == content);
  EXPECT_EQ(server_.log().at(3).header("content-range"), "3145745-8388607");
}

TEST_F(BlobTest, UploadGoesOnWhenNothingOfAPieceArrived) {
  const std::string content = noise(9 * kMiB);
  server_.break_next_patch(0);
  const auto pushed = push(content);
  ASSERT_TRUE(pushed) << pushed.error().message();
  EXPECT_TRUE(server_.blob(sha256(content)) == content);
}

TEST_F(BlobTest, UploadAsksWhenTheAnswerToAPieceIsLost) {
  const std::string content = noise(20 * kMiB);
  for (const auto end : {FakeResponse::End::kReset, FakeResponse::End::kClose}) {
    server_.remove_blob(sha256(content));
    server_.clear_log();
    server_.fault("PATCH", "/uploads/", 2, [end](const FakeRequest&, FakeResponse& response) {
      response.raw = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
      response.end = end;
    });
    const auto pushed = push(content);
    ASSERT_TRUE(pushed) << pushed.error().message();
    EXPECT_TRUE(server_.blob(sha256(content)) == content);
    EXPECT_EQ(server_.count("PATCH", ""), 3u);
    EXPECT_EQ(server_.count("GET", "/uploads/"), 2u);
  }
}

TEST_F(BlobTest, UploadThatTheRegistryForgotIsAnError) {
  const std::string content = noise(20 * kMiB);
  server_.fault("PATCH", "/uploads/", 1,
                [](const FakeRequest&, FakeResponse& response) { response.status = 502; });
  server_.fault("GET", "/uploads/", 1,
                [](const FakeRequest&, FakeResponse& response) { response.set("Range", "0-99"); });
  EXPECT_TRUE(push(noise(8 * kMiB)));  // it has 100 bytes, it says: the rest is refused once
  for (const char* method : {"PATCH", "GET", "PUT"}) {
    server_.clear_faults();
    if (method == std::string("GET")) {  // it is asked after a piece that failed
      server_.fault("PATCH", "/uploads/", 1,
                    [](const FakeRequest&, FakeResponse& response) { response.status = 502; });
    }
    server_.fault(method, "/uploads/", 1, [&](const FakeRequest&, FakeResponse& response) {
      server_.remove_blob(sha256(content));
      response.status = 404;
    });
    const auto pushed = push(content);
    ASSERT_FALSE(pushed) << method;
    EXPECT_EQ(pushed.error().code(), Errc::kFailedPrecondition) << method;
  }
  server_.clear_faults();
  server_.fault("PATCH", "/uploads/", FakeRegistry::kAlways,
                [](const FakeRequest&, FakeResponse& response) { response.status = 400; });
  EXPECT_EQ(push(content).error().code(), Errc::kInvalid);
}

TEST_F(BlobTest, UploadBeginsAgainWhenItIsLostAndTheContentIsStillThere) {
  FakeRegistry source;
  const std::string content = noise(20 * kMiB);
  source.add_blob(content);
  const auto from = Registry::open(http_, options_for(source)).value();
  server_.fault("PATCH", "/uploads/", 1, [&](const FakeRequest&, FakeResponse& response) {
    server_.forget_uploads();
    response.status = 404;
  });
  const auto copied = registry_->copy_blob(*from, descriptor_of(content));
  ASSERT_TRUE(copied) << copied.error().message();
  EXPECT_EQ(*copied, Arrival::kSent);
  EXPECT_TRUE(server_.blob(sha256(content)) == content);
  EXPECT_EQ(server_.count("POST", "/uploads/"), 2u);
  // Not for ever, though.
  server_.remove_blob(sha256(content));
  server_.fault("PATCH", "/uploads/", FakeRegistry::kAlways,
                [](const FakeRequest&, FakeResponse& response) { response.status = 404; });
  EXPECT_EQ(registry_->copy_blob(*from, descriptor_of(content)).error().code(),
            Errc::kFailedPrecondition);
}

TEST_F(BlobTest, SmallUploadBeginsAgainWhenItsOnlyRequestBreaks) {
  for (const int status : {404, 500, 503}) {
    server_.remove_blob(sha256("content"));
    server_.clear_log();
    server_.fault("PUT", "/uploads/", 1, [&](const FakeRequest&, FakeResponse& response) {
      server_.remove_blob(sha256("content"));
      server_.forget_uploads();
      response = FakeResponse();
      response.status = status;
    });
    const auto pushed = push("content");
    ASSERT_TRUE(pushed) << pushed.error().message();
    EXPECT_EQ(server_.blob(sha256("content")), "content");
    EXPECT_EQ(server_.count("POST", "/uploads/"), 2u);
  }
}

TEST_F(BlobTest, UploadWaitsAsLongAsItIsTold) {
  const std::string content = noise(9 * kMiB);
  server_.fault("PATCH", "/uploads/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.status = 429;
    response.set("Retry-After", "1");
  });
  const auto begin = std::chrono::steady_clock::now();
  ASSERT_TRUE(push(content));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(990));
  EXPECT_TRUE(server_.blob(sha256(content)) == content);
}

TEST_F(BlobTest, UploadGoesOnWithANewTokenWhenTheOldOneExpires) {
  server_.require_anonymous_bearer();
  const std::string content = noise(20 * kMiB);
  server_.fault("PATCH", "/uploads/", 1,
                [&](const FakeRequest&, FakeResponse&) { server_.expire_tokens(); });
  const auto pushed = push(content);
  ASSERT_TRUE(pushed) << pushed.error().message();
  EXPECT_TRUE(server_.blob(sha256(content)) == content);
  EXPECT_EQ(server_.count("GET", "/token"), 2u);
}

class MountTest : public BlobTest {
 protected:
  MountTest() {
    RegistryOptions options = options_for(server_);
    options.repository = "library/source";
    from_ = Registry::open(http_, options).value();
    server_.add_blob(content_);
    hide_once();  // the blobs of the fake are those of all repositories
  }
  Arrival copy() {
    const auto arrival = registry_->copy_blob(*from_, descriptor_of(content_));
    EXPECT_TRUE(arrival) << arrival.error().message();
    return arrival ? *arrival : Arrival::kElsewhere;
  }
  void hide_once() {
    server_.fault("HEAD", "/library/web/", 1, [](const FakeRequest&, FakeResponse& response) {
      response = FakeResponse();
      response.status = 404;
    });
  }

  const std::string content_ = noise(9 * kMiB);
  std::shared_ptr<Registry> from_;
};

TEST_F(MountTest, TakesNoBytes) {
  EXPECT_EQ(copy(), Arrival::kMounted);
  EXPECT_THAT(requests(), ElementsAre("HEAD 0", "POST 0"));
  EXPECT_EQ(server_.log()[1].parameter("from"), "library/source");
  EXPECT_EQ(copy(), Arrival::kWasThere);
}

TEST_F(MountTest, BecomesAnUploadWhereItIsNotWanted) {
  server_.enable_mounts(false);
  EXPECT_EQ(copy(), Arrival::kSent);
  EXPECT_EQ(server_.count("POST", "/uploads/"), 1u) << "the upload that began instead";
  for (const int status : {400, 401, 403, 404, 405, 500}) {
    hide_once();
    server_.fault("POST", "/uploads/", 1, [status](const FakeRequest&, FakeResponse& response) {
      response = FakeResponse();
      response.status = status;
    });
    EXPECT_EQ(copy(), Arrival::kSent) << status;
  }
}

TEST_F(MountTest, ARefusedRightToTheOtherRepositoryCostsNoRightToUpload) {
  server_.require_anonymous_bearer();
  server_.fault("GET", "/token", FakeRegistry::kAlways,
                [](const FakeRequest& request, FakeResponse& response) {
                  if (request.query.find("source") == std::string::npos) return;
                  if (request.query.find("web") == std::string::npos) return;
                  response = FakeResponse();
                  response.status = 403;
                });
  server_.fault("POST", "/uploads/", FakeRegistry::kAlways,
                [this](const FakeRequest& request, FakeResponse& response) {
                  if (request.parameter("mount").empty()) return;
                  response = FakeResponse();
                  response.status = 401;
                  response.set(
                      "WWW-Authenticate",
                      "Bearer realm=\"" + server_.endpoint() +
                          "/token\",service=\"fake\",scope=\"repository:library/source:pull\"");
                });
  EXPECT_EQ(copy(), Arrival::kSent);
  server_.expire_tokens();
  hide_once();
  EXPECT_EQ(copy(), Arrival::kSent) << "later tokens are not asked for with the other repository";
}

TEST_F(MountTest, IsNotTriedBetweenRegistries) {
  FakeRegistry other;
  const auto to = Registry::open(http_, options_for(other)).value();
  EXPECT_EQ(*to->copy_blob(*from_, descriptor_of(content_)), Arrival::kSent);
  for (const FakeRequest& request : other.log()) EXPECT_EQ(request.parameter("mount"), "");
  EXPECT_TRUE(other.blob(sha256(content_)) == content_);
}

TEST_F(BlobTest, LostAnswerToTheLastRequestIsFoundOut) {
  server_.fault("PUT", "/uploads/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.raw = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
    response.end = FakeResponse::End::kReset;
  });
  ASSERT_TRUE(push("content"));
  EXPECT_THAT(requests(), ElementsAre("HEAD 0", "POST 0", "PUT 7", "HEAD 0"));
}

TEST_F(BlobTest, UploadEndsOnlyWhenTheBlobIsThere) {
  const auto answer = [&](int status) {
    server_.clear_faults();
    server_.fault("PUT", "/uploads/", FakeRegistry::kAlways,
                  [this, status](const FakeRequest&, FakeResponse& response) {
                    response = FakeResponse();
                    response.status = status;
                    server_.remove_blob(sha256("content"));
                  });
  };
  answer(202);
  EXPECT_EQ(push("content").error().code(), Errc::kInvalid);
  answer(400);
  EXPECT_EQ(push("content").error().code(), Errc::kInvalid);
  answer(403);
  EXPECT_EQ(push("content").error().code(), Errc::kDenied);
  server_.clear_faults();
  server_.fault("PUT", "/uploads/", 1, [](const FakeRequest&, FakeResponse& response) {
    response.set("Docker-Content-Digest", sha256("other").to_string());
  });
  EXPECT_EQ(push("content").error().code(), Errc::kCorrupt);
}

TEST_F(BlobTest, AnnouncedDigestMustBeRight) {
  auto writer = registry_->create_blob();
  ASSERT_TRUE(writer);
  ASSERT_TRUE((*writer)->write(as_bytes("content")));
  EXPECT_EQ((*writer)->commit(sha256("other")).error().code(), Errc::kCorrupt);
  EXPECT_TRUE(server_.log().empty());
}

TEST_F(BlobTest, UncommittedUploadLeavesNothing) {
  const std::string content = noise(9 * kMiB);
  {
    auto writer = registry_->create_blob();
    ASSERT_TRUE(writer);
    ASSERT_TRUE((*writer)->write(as_bytes(content)));
  }
  EXPECT_FALSE(server_.blob(sha256(content)));
  EXPECT_EQ(server_.count("PUT", ""), 0u);
}

TEST_F(BlobTest, UploadElsewhereGetsNoCredential) {
  FakeRegistry storage;
  TempDir dir;
  server_.require_basic("joe", "pw");
  RegistryOptions options = options_for(
      server_, dir.write("config.json", "{\"auths\":{\"" + server_.host() +
                                            "\":{\"username\":\"joe\",\"password\":\"pw\"}}}"));
  auto registry = Registry::open(http_, options);
  ASSERT_TRUE(registry);
  // The upload that the registry sends us to.
  HttpRequest post;
  post.method = "POST";
  post.url = storage.endpoint() + "/v2/x/blobs/uploads/";
  auto begun = http_.perform(post);
  ASSERT_TRUE(begun);
  const std::string location = storage.endpoint() + begun->header("location");
  server_.fault("POST", "/uploads/", FakeRegistry::kAlways,
                [&](const FakeRequest&, FakeResponse& response) {
                  if (response.status == 202) response.set("Location", location);
                });
  const std::string content = noise(9 * kMiB);
  auto writer = (*registry)->create_blob();
  ASSERT_TRUE(writer);
  ASSERT_TRUE((*writer)->write(as_bytes(content)));
  const auto committed = (*writer)->commit(sha256(content));
  ASSERT_TRUE(committed) << committed.error().message();
  EXPECT_TRUE(storage.blob(sha256(content)) == content);
  EXPECT_GE(storage.log().size(), 3u);
  for (const FakeRequest& request : storage.log()) {
    EXPECT_EQ(request.headers.count("authorization"), 0u) << request.method;
  }
}

TEST_F(BlobTest, UploadTakesAbsoluteLocations) {
  for (const std::string& base : {server_.endpoint(), std::string("//") + server_.host()}) {
    server_.clear_faults();
    server_.fault("", "/uploads/", FakeRegistry::kAlways,
                  [base](const FakeRequest&, FakeResponse& response) {
                    for (auto& [name, value] : response.headers) {
                      if (name == "Location" && value.starts_with("/")) value.insert(0, base);
                    }
                  });
    server_.remove_blob(sha256(noise(9 * kMiB)));
    ASSERT_TRUE(push(noise(9 * kMiB)));
  }
  for (const char* location : {"", "file:///tmp/x", "http://169.254.169.254/x"}) {
    server_.clear_faults();
    server_.fault("POST", "/uploads/", 1, [&](const FakeRequest&, FakeResponse& response) {
      response.set("Location", location);
    });
    EXPECT_FALSE(push("content"));
  }
}

TEST_F(BlobTest, UploadAsksForPushOnlyWhenItIsNeeded) {
  server_.require_anonymous_bearer();
  ASSERT_TRUE(push(noise(9 * kMiB)));
  std::vector<std::string> scopes;
  for (const FakeRequest& request : server_.log()) {
    if (request.path == "/token") scopes.push_back(request.parameter("scope"));
  }
  EXPECT_THAT(scopes, ElementsAre("repository:library/web:pull,push"));
}

}  // namespace
}  // namespace imsy::oci
