#include "converter/carrier.h"

#include <utility>

#include "common/log.h"
#include "converter/source_image.h"

namespace imsy::converter {
namespace {

const std::optional<std::string> kNone;

// What is missing, or cannot be understood, stays so.
bool is_obstacle(const Error& error) {
  return error.code() == Errc::kNotFound || error.code() == Errc::kInvalid;
}

}  // namespace

Result<Carrier::Obstacle> Carrier::copy(const oci::Descriptor& entry, unsigned depth) {
  if (copied_.contains(entry.digest)) return kNone;
  if (!oci::is_index(entry.media_type) && !oci::is_manifest(entry.media_type)) {
    return Obstacle("what belongs to the media type " + log::printable(entry.media_type) +
                    " is not known");
  }
  if (depth == kIndexDepth) return Obstacle("indexes are nested too deeply");
  const auto document = get_entry(from_, entry);
  if (!document && is_obstacle(document.error())) return Obstacle(document.error().message());
  if (!document) return document.error();
  IMSY_TRY_ASSIGN(const auto obstacle, copy_below(*document, depth));
  if (obstacle) return obstacle;
  const Status put = to_.put_manifest(*document, "");
  if (!put && put.error().code() == Errc::kInvalid) return Obstacle(put.error().message());
  if (!put) return put.error();
  copied_.insert(entry.digest);
  return kNone;
}

Result<Carrier::Obstacle> Carrier::copy_below(const oci::Document& document, unsigned depth) {
  if (!oci::is_index(document.media_type)) {
    const auto manifest = oci::parse_manifest(document);
    return manifest ? copy_blobs(*manifest) : Obstacle(manifest.error().message());
  }
  const auto index = oci::parse_index(document);
  if (!index) return Obstacle(index.error().message());
  for (const auto& below : index->manifests) {
    IMSY_TRY_ASSIGN(const auto obstacle, copy(below, depth + 1));
    if (obstacle) return obstacle;
  }
  return kNone;
}

Result<Carrier::Obstacle> Carrier::copy_blobs(const oci::Manifest& manifest) {
  std::vector<BlobTask> tasks;
  std::set<Digest> named;
  const auto add = [&](const oci::Descriptor& blob) {
    if (!named.insert(blob.digest).second) return;
    tasks.push_back({blob.size, [this, &blob] { return copy_blob(blob); }});
  };
  add(manifest.config);
  for (const auto& layer : manifest.layers) add(layer);
  const Status sent = send_blobs(to_, tasks, transfers_);
  if (!sent && sent.error().code() == Errc::kNotFound) return Obstacle(sent.error().message());
  if (!sent) return sent.error();
  return kNone;
}

// kNotFound: the source has no such blob, whatever the target may be lacking.
Result<oci::Arrival> Carrier::copy_blob(const oci::Descriptor& blob) {
  auto arrival = to_.copy_blob(from_, blob);
  if (arrival || arrival.error().code() != Errc::kNotFound) return arrival;
  const auto reader = from_.open_blob(blob);
  if (reader) return Error(Errc::kUnavailable, arrival.error().message());
  if (reader.error().code() != Errc::kNotFound) return reader.error();
  // Such layers may lie elsewhere on purpose.
  if (oci::is_foreign_layer(blob)) return oci::Arrival::kElsewhere;
  return arrival;
}

}  // namespace imsy::converter
