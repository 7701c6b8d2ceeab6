#include "snapshotter/manifest_fetch.h"

#include <optional>

#include "common/mutex.h"

namespace imsy::snapshotter {
namespace {

// Where the answer arrives, which may be after nobody waits for it any more.
class Arrival {
 public:
  void arrive(Result<Bytes> result) {
    MutexLock lock(mu_);
    if (!result_) result_ = std::move(result);
    arrived_.notify_all();
  }
  Result<Bytes> wait(std::chrono::steady_clock::time_point deadline) {
    MutexLock lock(mu_);
    while (!result_) {
      if (!arrived_.wait_until(mu_, deadline) && !result_) {
        return Error(Errc::kTimeout, "the registry did not answer in time");
      }
    }
    return std::move(*result_);
  }

 private:
  Mutex mu_;
  CondVar arrived_;
  std::optional<Result<Bytes>> result_ IMSY_GUARDED_BY(mu_);
};

}  // namespace

Result<Bytes> read_range(oci::Registry& registry, const Digest& blob, std::uint64_t blob_size,
                         std::uint64_t offset, std::uint64_t length, oci::Purpose purpose,
                         std::chrono::steady_clock::time_point deadline,
                         const std::stop_token& stop) {
  const auto arrival = std::make_shared<Arrival>();
  const std::stop_callback give_up(stop, [&arrival] {
    arrival->arrive(Error(Errc::kCancelled, "imsy-snapshotter is stopping"));
  });
  const auto cancel =
      registry.read_range(blob, blob_size, offset, length, purpose,
                          [arrival](Result<Bytes> bytes) { arrival->arrive(std::move(bytes)); });
  auto result = arrival->wait(deadline);
  cancel();
  return result;
}

void wait_until(std::chrono::steady_clock::time_point then, const std::stop_token& stop) {
  Arrival nothing;
  const std::stop_callback give_up(stop, [&nothing] {
    nothing.arrive(Error(Errc::kCancelled, "imsy-snapshotter is stopping"));
  });
  ignore(nothing.wait(then), "the wait was all");
}

Result<cdc::FetchedManifest> fetch_manifest(oci::Registry& registry, const cdc::Anchor& anchor,
                                            std::chrono::steady_clock::time_point deadline,
                                            const std::stop_token& stop) {
  const cdc::Anchor::DataLayer& layer = anchor.data_layers[anchor.manifest_layer];
  return cdc::fetch_manifest(anchor, [&](std::uint64_t offset, std::uint64_t length) {
    return read_range(registry, layer.blob, layer.size, offset, length, oci::Purpose::kManifest,
                      deadline, stop);
  });
}

}  // namespace imsy::snapshotter
