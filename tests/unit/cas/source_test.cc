// All sources against their contract, and what RegistrySource adds to it.
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
  options.credentials = std::make_shared<oci::DockerConfig>("/nonexistent/config.json");
  options.first_retry_delay = std::chrono::milliseconds(1);
  auto registry = oci::Registry::open(http, options);
  EXPECT_TRUE(registry) << registry.error().message();
  return registry ? *registry : nullptr;
}

class RegistryUnderTest final : public SourceUnderTest {
 public:
  BlobSource& source() override { return *source_; }
  void add(const Bytes& blob) override { registry_.add_blob(std::string(as_text(blob))); }

 private:
  test::FakeRegistry registry_;
  oci::HttpClient http_;
  std::shared_ptr<BlobSource> source_ =
      make_registry_source({open_registry(http_, registry_.endpoint())});
};

INSTANTIATE_TEST_SUITE_P(
    All, BlobSourceContract,
    ::testing::Values(SourceKind{"Memory", [] { return std::make_unique<MemoryUnderTest>(); }},
                      SourceKind{"Registry", [] { return std::make_unique<RegistryUnderTest>(); }}),
    [](const auto& kind) { return kind.param.name; });

class RegistrySourceTest : public ::testing::Test {
 protected:
  std::shared_ptr<BlobSource> source() {
    return make_registry_source(
        {open_registry(http_, first_.endpoint()), open_registry(http_, second_.endpoint())});
  }
  static Result<Bytes> read(BlobSource& from, const BlobRange& range) {
    std::promise<Result<Bytes>> promise;
    auto future = promise.get_future();
    from.read(range, [&](Result<Bytes> bytes) { promise.set_value(std::move(bytes)); });
    return future.get();
  }

  const std::string blob_ = std::string(1000, 'x') + "end";
  const BlobRange range_{sha256(blob_), blob_.size(), 990, 13};
  test::FakeRegistry first_;
  test::FakeRegistry second_;
  oci::HttpClient http_;
};

TEST_F(RegistrySourceTest, GoesOnToTheNextAndRemembersWhoAnswered) {
  second_.add_blob(blob_);
  const auto both = source();
  for (int i = 0; i < 3; ++i) {
    const auto bytes = read(*both, range_);
    ASSERT_OK(bytes);
    EXPECT_EQ(as_text(*bytes), "xxxxxxxxxxend");
  }
  EXPECT_EQ(first_.count("GET", "/blobs/"), 1u);
  EXPECT_EQ(second_.count("GET", "/blobs/"), 3u);
}

TEST_F(RegistrySourceTest, GoesOnWhenARepositoryRefuses) {
  first_.require_basic("user", "password");
  second_.add_blob(blob_);
  EXPECT_OK(read(*source(), range_));
}

TEST_F(RegistrySourceTest, GoesOnWhenARepositoryIsAway) {
  first_.fault("GET", "/blobs/", test::FakeRegistry::kAlways,
               [](const auto&, test::FakeResponse& response) { response.status = 503; });
  second_.add_blob(blob_);
  EXPECT_OK(read(*source(), range_));
}

TEST_F(RegistrySourceTest, PrefersAFailureThatMayGoAway) {
  second_.fault("GET", "/blobs/", test::FakeRegistry::kAlways,
                [](const auto&, test::FakeResponse& response) { response.status = 503; });
  EXPECT_EQ(code_of(read(*source(), range_)), Errc::kUnavailable);
}

TEST_F(RegistrySourceTest, SaysThatNoneHasTheBlob) {
  EXPECT_EQ(code_of(read(*source(), range_)), Errc::kNotFound);
}

TEST_F(RegistrySourceTest, WithoutARepositoryItIsUnavailable) {
  EXPECT_EQ(code_of(read(*make_registry_source({}), range_)), Errc::kUnavailable);
}

}  // namespace
}  // namespace imsy::cas
