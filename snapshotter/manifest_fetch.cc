#include "snapshotter/manifest_fetch.h"

#include <algorithm>
#include <optional>

#include "common/mutex.h"

namespace imsy::snapshotter {
namespace {

// Up to here one request is cheaper than a second round trip.
constexpr std::uint64_t kOneRequest = 1 << 20;
// What this daemon takes into memory for one image; far above an image of a million files.
constexpr std::uint64_t kManifestMax = std::uint64_t{512} << 20;

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
                         std::uint64_t offset, std::uint64_t length,
                         std::chrono::steady_clock::time_point deadline,
                         const std::stop_token& stop) {
  const auto arrival = std::make_shared<Arrival>();
  const std::stop_callback give_up(stop, [&arrival] {
    arrival->arrive(Error(Errc::kCancelled, "imsy-snapshotter is stopping"));
  });
  registry.read_range(blob, blob_size, offset, length,
                      [arrival](Result<Bytes> bytes) { arrival->arrive(std::move(bytes)); });
  return arrival->wait(deadline);
}

Result<FetchedManifest> fetch_manifest(oci::Registry& registry, const cdc::Anchor& anchor,
                                       std::chrono::steady_clock::time_point deadline,
                                       const std::stop_token& stop) {
  if (anchor.manifest_size > kManifestMax) {
    return Error(Errc::kInvalid, "the CDC manifest is larger than this program takes: " +
                                     std::to_string(anchor.manifest_size) + " bytes");
  }
  const cdc::Anchor::DataLayer& layer = anchor.data_layers[anchor.manifest_layer];
  const auto read = [&](std::uint64_t from, std::uint64_t size) {
    return read_range(registry, layer.blob, layer.size, anchor.manifest_offset + from, size,
                      deadline, stop);
  };
  const std::uint64_t first =
      anchor.manifest_size <= kOneRequest ? anchor.manifest_size : anchor.header_size;
  FetchedManifest fetched;
  IMSY_TRY_ASSIGN(fetched.bytes, read(0, first));
  if (first < anchor.manifest_size) {
    IMSY_TRY(cdc::Manifest::read_header(fetched.bytes, anchor));
    IMSY_TRY_ASSIGN(const Bytes rest, read(first, anchor.manifest_size - first));
    append(fetched.bytes, rest);
  }
  IMSY_TRY_ASSIGN(fetched.manifest, cdc::Manifest::read(fetched.bytes, anchor));
  return fetched;
}

}  // namespace imsy::snapshotter
