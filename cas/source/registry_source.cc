#include "cas/source/registry_source.h"

#include <utility>

namespace imsy::cas {
namespace {

class RegistrySource final : public BlobSource {
 public:
  RegistrySource(std::string name, std::shared_ptr<oci::Registry> registry,
                 TrustDomainOf trust_domain)
      : name_(std::move(name)),
        registry_(std::move(registry)),
        trust_domain_(std::move(trust_domain)) {}

  const std::string& name() const override { return name_; }

  void read(const BlobRange& range, Done done) override {
    registry_->read_range(range.blob, range.blob_size, range.offset, range.length,
                          [registry = registry_, trust_domain = trust_domain_,
                           done = std::move(done)](Result<Bytes> bytes) {
                            if (!bytes) return done(bytes.error());
                            done(Brought{std::move(*bytes), trust_domain(*registry)});
                          });
  }

  Time usable_at() const override { return registry_->usable_at(); }
  void distrust(const Digest& blob) override { registry_->distrust(blob); }

 private:
  const std::string name_;
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
