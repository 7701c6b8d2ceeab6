// All sources against their contract, and what RegistrySource adds to it.
#include <map>

#include "cas/source/part_source.h"
#include "cas/source/registry_source.h"
#include "oci/http.h"
#include "tests/support/fake_registry.h"
#include "tests/support/memory_source.h"
#include "tests/unit/cas/blob_source_contract.h"
#include "tests/unit/cas/fixture.h"

namespace imsy::cas {
namespace {

class MemoryUnderTest final : public SourceUnderTest {
 public:
  BlobSource& source() override { return source_; }
  void add(const Bytes& blob) override { source_.add(blob); }

 private:
  test::MemorySource source_;
};

std::shared_ptr<oci::Registry> open_registry(oci::HttpClient& http, const std::string& endpoint) {
  oci::RegistryOptions options;
  options.host = oci::host_at(endpoint);
  options.repository = "team/app";
  options.credentials = oci::docker_credentials("/nonexistent/config.json");
  options.patient = false;
  auto registry = oci::Registry::open(http, options);
  EXPECT_TRUE(registry) << registry.error().message();
  return registry ? *registry : nullptr;
}

std::string domain_of(const oci::Registry& registry) {
  return registry.identity().empty() ? "" : registry.name();
}

class RegistryUnderTest final : public SourceUnderTest {
 public:
  BlobSource& source() override { return *source_; }
  void add(const Bytes& blob) override { registry_.add_blob(std::string(as_text(blob))); }

 private:
  test::FakeRegistry registry_;
  oci::HttpClient http_;
  std::shared_ptr<BlobSource> source_ =
      make_registry_source("the registry", open_registry(http_, registry_.endpoint()), &domain_of);
};

// A place that is read by parts, from several threads.
class PlaceOfBlobs final : public oci::ImageSource {
 public:
  void add(const Bytes& blob) { blobs_.emplace(sha256(blob), blob); }
  std::string name() const override { return "the place"; }
  Result<oci::Document> get_manifest(const std::string& /*object*/) override {
    return Error(Errc::kNotFound, "no manifests here");
  }
  Result<std::unique_ptr<ByteReader>> open_blob(const oci::Descriptor& /*blob*/) override {
    return Error(Errc::kNotFound, "no streams here");
  }
  Result<Bytes> read_part(const oci::Descriptor& blob, std::uint64_t offset,
                          std::uint64_t length) override {
    const auto found = blobs_.find(blob.digest);
    if (found == blobs_.end()) return Error(Errc::kNotFound, "no such blob");
    if (found->second.size() != blob.size) return Error(Errc::kInvalid, "another size");
    const auto part = ByteSpan(found->second).subspan(offset, length);
    return Bytes(part.begin(), part.end());
  }

 private:
  std::map<Digest, Bytes> blobs_;
};

class PartUnderTest final : public SourceUnderTest {
 public:
  BlobSource& source() override { return *source_; }
  void add(const Bytes& blob) override { place_.add(blob); }

 private:
  PlaceOfBlobs place_;
  std::shared_ptr<BlobSource> source_ = make_part_source(place_, 4);
};

INSTANTIATE_TEST_SUITE_P(
    All, BlobSourceContract,
    ::testing::Values(SourceKind{"Memory", [] { return std::make_unique<MemoryUnderTest>(); }},
                      SourceKind{"Part", [] { return std::make_unique<PartUnderTest>(); }},
                      SourceKind{"Registry", [] { return std::make_unique<RegistryUnderTest>(); }}),
    [](const auto& kind) { return kind.param.name; });

class RegistrySourceTest : public ::testing::Test {
 protected:
  Result<Brought> read() { return cas::read(*source_, range_); }
  void break_down(int times, int status) {
    registry_.fault("GET", "/blobs/", times, [status](const auto&, test::FakeResponse& response) {
      response.status = status;
    });
  }

  const std::string blob_ = std::string(1000, 'x') + "end";
  const BlobRange range_{sha256(blob_), blob_.size(), 990, 13};
  test::FakeRegistry registry_;
  oci::HttpClient http_;
  const std::shared_ptr<BlobSource> source_ =
      make_registry_source("place", open_registry(http_, registry_.endpoint()), &domain_of);
};

TEST_F(RegistrySourceTest, AsksOnceWhateverHappens) {
  registry_.add_blob(blob_);
  for (const int status : {404, 429, 500, 503}) {
    registry_.clear_log();
    break_down(1, status);
    const auto failed = read();
    EXPECT_EQ(code_of(failed), status == 404 ? Errc::kNotFound : Errc::kUnavailable) << status;
    EXPECT_EQ(registry_.log().size(), 1u) << status;
  }
}

TEST_F(RegistrySourceTest, GivesWhatCameBeforeABreak) {
  registry_.add_blob(blob_);
  registry_.fault("GET", "/blobs/", 1, [](const auto&, test::FakeResponse& response) {
    response.send_at_most = 7;
    response.end = test::FakeResponse::End::kClose;
  });
  std::promise<Result<Brought>> answer;
  const auto collector = std::make_shared<Collector>(
      [&](Result<Brought> brought) { answer.set_value(std::move(brought)); });
  source_->read(range_, collector);
  EXPECT_EQ(code_of(answer.get_future().get()), Errc::kUnavailable);
  EXPECT_EQ(collector->came(), 7u);
  EXPECT_EQ(registry_.log().size(), 1u);
}

TEST_F(RegistrySourceTest, GivesNothingOfAnotherRange) {
  registry_.add_blob(blob_);
  for (const int status : {200, 206}) {
    registry_.fault("GET", "/blobs/", 1, [status](const auto&, test::FakeResponse& response) {
      response.status = status;
      response.set("Content-Range", "bytes 991-1002/1003");
    });
    std::promise<Result<Brought>> answer;
    const auto collector = std::make_shared<Collector>(
        [&](Result<Brought> brought) { answer.set_value(std::move(brought)); });
    source_->read(range_, collector);
    EXPECT_EQ(code_of(answer.get_future().get()), Errc::kInvalid);
    EXPECT_EQ(collector->came(), 0u);
  }
}

TEST_F(RegistrySourceTest, AsksForAWholeBlobWithoutARange) {
  registry_.add_blob(blob_);
  const auto brought = cas::read(*source_, {range_.blob, blob_.size(), 0, blob_.size()});
  ASSERT_OK(brought);
  EXPECT_EQ(as_text(brought->bytes), blob_);
  EXPECT_EQ(registry_.log().back().header("range"), "");
}

TEST_F(RegistrySourceTest, SaysFromWhenOnItMayBeAsked) {
  registry_.add_blob(blob_);
  EXPECT_LE(source_->usable_at(), std::chrono::steady_clock::now());
  break_down(5, 500);
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(read());
  EXPECT_GT(source_->usable_at(), std::chrono::steady_clock::now());
  registry_.clear_log();
  EXPECT_EQ(code_of(read()), Errc::kUnavailable);
  EXPECT_TRUE(registry_.log().empty());
}

TEST_F(RegistrySourceTest, SaysWhoseTheBytesAre) {
  registry_.add_blob(blob_);
  auto brought = read();
  ASSERT_OK(brought);
  EXPECT_EQ(brought->trust_domain, "");
  registry_.require_basic("user", "password");
  EXPECT_EQ(code_of(read()), Errc::kDenied);
}

}  // namespace
}  // namespace imsy::cas
