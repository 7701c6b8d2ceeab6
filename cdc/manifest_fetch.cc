#include "cdc/manifest_fetch.h"

namespace imsy::cdc {
namespace {

// Up to here one request is cheaper than a second round trip.
constexpr std::uint64_t kOneRequest = 1 << 20;
// What is taken into memory for one image; far above an image of a million files.
constexpr std::uint64_t kManifestMax = std::uint64_t{512} << 20;

}  // namespace

Result<FetchedManifest> fetch_manifest(const Anchor& anchor, const ReadBlob& read) {
  if (anchor.manifest_size > kManifestMax) {
    return Error(Errc::kInvalid, "the CDC manifest is larger than this program takes: " +
                                     std::to_string(anchor.manifest_size) + " bytes");
  }
  const std::uint64_t first =
      anchor.manifest_size <= kOneRequest ? anchor.manifest_size : anchor.header_size;
  FetchedManifest fetched;
  IMSY_TRY_ASSIGN(fetched.bytes, read(anchor.manifest_offset, first));
  if (first < anchor.manifest_size) {
    IMSY_TRY(Manifest::read_header(fetched.bytes, anchor));
    IMSY_TRY_ASSIGN(const Bytes rest,
                    read(anchor.manifest_offset + first, anchor.manifest_size - first));
    append(fetched.bytes, rest);
  }
  IMSY_TRY_ASSIGN(fetched.manifest, Manifest::read(fetched.bytes, anchor));
  return fetched;
}

}  // namespace imsy::cdc
