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

INSTANTIATE_TEST_SUITE_P(
    All, BlobSourceContract,
    ::testing::Values(SourceKind{"Memory", [] { return std::make_unique<MemoryUnderTest>(); }},
                      SourceKind{"Registry", [] { return std::make_unique<RegistryUnderTest>(); }}),
    [](const auto& kind) { return kind.param.name; });

class RegistrySourceTest : public ::testing::Test {
 protected:
  Result<Brought> read() {
    std::promise<Result<Brought>> promise;
    auto future = promise.get_future();
    source_->read(range_, [&](Result<Brought> brought) { promise.set_value(std::move(brought)); });
    return future.get();
  }
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
