#include "cas/source/registry_source.h"

#include <atomic>
#include <optional>
#include <utility>

namespace imsy::cas {
namespace {

bool may_go_away(const Error& error) {
  return error.code() == Errc::kUnavailable || error.code() == Errc::kTimeout;
}

// Outlives the source while requests are open.
struct Repositories {
  std::vector<std::shared_ptr<oci::Registry>> list;
  std::atomic<std::size_t> first{0};  // the one that worked last
};

// One read on its way from repository to repository.
struct Attempt : std::enable_shared_from_this<Attempt> {
  std::shared_ptr<Repositories> repositories;
  BlobRange range;
  BlobSource::Done done;
  std::size_t first = 0;
  std::size_t tried = 0;
  std::optional<Error> failure;

  void next() {
    if (tried == repositories->list.size()) {
      done(failure ? *failure : Error(Errc::kUnavailable, "no registry is known for the image"));
      return;
    }
    const std::size_t at = (first + tried++) % repositories->list.size();
    repositories->list[at]->read_range(
        range.blob, range.blob_size, range.offset, range.length,
        [self = shared_from_this(), at](Result<Bytes> bytes) { self->take(at, std::move(bytes)); });
  }

  void take(std::size_t at, Result<Bytes> bytes) {
    if (bytes) {
      repositories->first = at;
      done(std::move(bytes));
      return;
    }
    if (bytes.error().code() == Errc::kCancelled) {
      done(std::move(bytes));  // the client is going away
      return;
    }
    if (!failure || (!may_go_away(*failure) && may_go_away(bytes.error()))) {
      failure = bytes.error();
    }
    next();
  }
};

class RegistrySource final : public BlobSource {
 public:
  explicit RegistrySource(std::vector<std::shared_ptr<oci::Registry>> repositories)
      : repositories_(std::make_shared<Repositories>()) {
    repositories_->list = std::move(repositories);
  }

  void read(const BlobRange& range, Done done) override {
    auto attempt = std::make_shared<Attempt>();
    attempt->repositories = repositories_;
    attempt->range = range;
    attempt->done = std::move(done);
    attempt->first = repositories_->first;
    attempt->next();
  }

 private:
  const std::shared_ptr<Repositories> repositories_;
};

}  // namespace

std::shared_ptr<BlobSource> make_registry_source(
    std::vector<std::shared_ptr<oci::Registry>> repositories) {
  return std::make_shared<RegistrySource>(std::move(repositories));
}

}  // namespace imsy::cas
