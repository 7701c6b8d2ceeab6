#include "cas/source/registry_source.h"

#include <memory>
#include <utility>

namespace imsy::cas {
namespace {

oci::Purpose purpose_of(const BlobRange& range) {
  switch (range.purpose) {
    case Purpose::kDemand: return oci::Purpose::kDemand;
    case Purpose::kStartup: return oci::Purpose::kStartup;
    case Purpose::kFill: return oci::Purpose::kBackground;
  }
  return oci::Purpose::kOther;
}

class RegistrySource final : public BlobSource {
 public:
  RegistrySource(std::string name, std::shared_ptr<oci::Registry> registry,
                 TrustDomainOf trust_domain)
      : name_(std::move(name)),
        host_(registry->host()),
        registry_(std::move(registry)),
        trust_domain_(std::move(trust_domain)) {}

  const std::string& name() const override { return name_; }
  const std::string& host() const override { return host_; }
  Cost cost() const override {
    const auto cost = registry_->cost();
    return {cost.round_trip, cost.bandwidth};
  }

  Cancel read(const BlobRange& range, std::shared_ptr<BlobReceiver> receiver) override {
    oci::Registry::RangeEvents events;
    const auto began = std::make_shared<bool>(false);
    events.on_bytes = [registry = registry_, trust_domain = trust_domain_, began,
                       receiver](ByteSpan piece) {
      if (!std::exchange(*began, true)) receiver->begin(trust_domain(*registry));
      receiver->take(piece);
    };
    events.done = [receiver](const Status& status) { receiver->end(status); };
    return registry_->stream_range(range.blob, range.blob_size, range.offset, range.length,
                                   purpose_of(range), std::move(events));
  }

  Time usable_at() const override { return registry_->usable_at(); }
  void distrust(const Digest& blob) override { registry_->distrust(blob); }

 private:
  const std::string name_;
  const std::string host_;
  const std::shared_ptr<oci::Registry> registry_;
  const TrustDomainOf trust_domain_;
};

}  // namespace

std::shared_ptr<BlobSource> make_registry_source(std::string name,
                                                 std::shared_ptr<oci::Registry> registry,
                                                 TrustDomainOf trust_domain) {
  return std::make_shared<RegistrySource>(std::move(name), std::move(registry),
                                          std::move(trust_domain));
}

}  // namespace imsy::cas
