#include "cas/fetcher.h"

#include <utility>

#include "cas/engine.h"

namespace imsy::cas {
namespace {

class AttachedImage final : public Image {
 public:
  AttachedImage(std::shared_ptr<Engine> engine, ImagePtr state)
      : engine_(std::move(engine)), state_(std::move(state)) {}
  ~AttachedImage() override { engine_->detach(state_); }
  AttachedImage(const AttachedImage&) = delete;
  AttachedImage& operator=(const AttachedImage&) = delete;

  const std::shared_ptr<const cdc::Manifest>& manifest() const override { return state_->manifest; }
  std::uint64_t read(std::uint32_t object, std::uint64_t offset, std::uint32_t length,
                     ReadDone done) override {
    return engine_->read(state_, object, offset, length, std::move(done));
  }
  void cancel(std::uint64_t read) override { engine_->cancel(read); }
  void fill(std::function<void(Status)> done) override { engine_->fill(state_, std::move(done)); }
  void prefetch(std::vector<std::uint32_t> chunks) override {
    engine_->prefetch(state_, std::move(chunks));
  }
  std::string trust_domain() const override { return state_->trust_domain(); }
  FetchStats stats() const override { return state_->counters.read(); }

 private:
  const std::shared_ptr<Engine> engine_;
  const ImagePtr state_;
};

class EngineFetcher final : public Fetcher {
 public:
  EngineFetcher(Store& store, const FetcherOptions& options)
      : engine_(std::make_shared<Engine>(store, options)) {}
  ~EngineFetcher() override { engine_->stop(); }
  EngineFetcher(const EngineFetcher&) = delete;
  EngineFetcher& operator=(const EngineFetcher&) = delete;

  std::shared_ptr<Image> attach(std::shared_ptr<const cdc::Manifest> manifest,
                                const cdc::Anchor& anchor, Places places,
                                const std::string& trust_domain, Locate locate) override {
    return std::make_shared<AttachedImage>(
        engine_, engine_->attach(std::move(manifest), anchor, std::move(places), trust_domain,
                                 std::move(locate)));
  }
  FetchStats stats() const override { return engine_->stats(); }
  bool keeps_nothing() const override { return engine_->keeps_nothing(); }

 private:
  const std::shared_ptr<Engine> engine_;
};

}  // namespace

std::unique_ptr<Fetcher> Fetcher::create(Store& store, const FetcherOptions& options) {
  return std::make_unique<EngineFetcher>(store, options);
}

}  // namespace imsy::cas
