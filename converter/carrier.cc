#include "converter/carrier.h"

#include <utility>

#include "common/log.h"

namespace imsy::converter {
namespace {

constexpr unsigned kDepthMax = 4;  // indexes in indexes

}  // namespace

Status Carrier::copy(const oci::Descriptor& entry, unsigned depth) {
  if (copied_.contains(entry.digest)) return {};
  const bool index = oci::is_index(entry.media_type);
  if (!index && !oci::is_manifest(entry.media_type)) {
    return Error(Errc::kInvalid, "what belongs to the media type " +
                                     log::printable(entry.media_type) + " is not known");
  }
  if (depth == kDepthMax) return Error(Errc::kInvalid, "indexes are nested too deeply");
  IMSY_TRY_ASSIGN(const auto document, from_.get_manifest(entry.digest.to_string()));
  if (index) {
    IMSY_TRY_ASSIGN(const auto parsed, oci::parse_index(document));
    for (const auto& below : parsed.manifests) IMSY_TRY(copy(below, depth + 1));
  } else {
    IMSY_TRY_ASSIGN(const auto parsed, oci::parse_manifest(document));
    IMSY_TRY(copy_blobs(parsed));
  }
  IMSY_TRY(to_.put_manifest(document, ""));
  copied_.insert(entry.digest);
  return {};
}

Status Carrier::copy_blobs(const oci::Manifest& manifest) {
  std::vector<BlobTask> tasks;
  std::set<Digest> named;
  const auto add = [&](const oci::Descriptor& blob) {
    if (!named.insert(blob.digest).second) return;
    tasks.push_back({blob.size, [this, &blob]() -> Result<oci::Arrival> {
                       auto arrival = to_.copy_blob(from_, blob);
                       // Such layers may lie elsewhere on purpose.
                       const bool elsewhere = !arrival && oci::is_foreign_layer(blob) &&
                                              arrival.error().code() == Errc::kNotFound;
                       return elsewhere ? oci::Arrival::kWasThere : std::move(arrival);
                     }});
  };
  add(manifest.config);
  for (const auto& layer : manifest.layers) add(layer);
  return send_blobs(to_, tasks, transfers_);
}

}  // namespace imsy::converter
