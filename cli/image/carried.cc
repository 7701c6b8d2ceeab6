#include "cli/image/carried.h"

#include <string>

#include "common/log.h"
#include "converter/source_image.h"

namespace imsy::cli::image {
namespace {

Status check_blob(oci::ImageSource& source, const oci::Descriptor& blob) {
  const auto reader = source.open_blob(blob);
  if (reader) return read_to_end(**reader);
  const bool elsewhere = oci::is_foreign_layer(blob) && reader.error().code() == Errc::kNotFound;
  return elsewhere ? Status() : Status(reader.error());
}

Result<std::uint64_t> check_blobs(oci::ImageSource& source, const oci::Manifest& manifest) {
  IMSY_TRY(check_blob(source, manifest.config));
  for (const oci::Descriptor& layer : manifest.layers) IMSY_TRY(check_blob(source, layer));
  return std::uint64_t{1} + manifest.layers.size();
}

Result<std::uint64_t> check_entry(oci::ImageSource& source, const oci::Descriptor& entry,
                                  unsigned depth) {
  if (!oci::is_index(entry.media_type) && !oci::is_manifest(entry.media_type)) {
    return Error(Errc::kInvalid, "what belongs to the media type " +
                                     log::printable(entry.media_type) + " is not known");
  }
  if (depth == converter::kIndexDepth)
    return Error(Errc::kInvalid, "indexes are nested too deeply");
  IMSY_TRY_ASSIGN(const auto document, converter::get_entry(source, entry));
  if (oci::is_manifest(document.media_type)) {
    IMSY_TRY_ASSIGN(const auto manifest, oci::parse_manifest(document));
    return check_blobs(source, manifest);
  }
  IMSY_TRY_ASSIGN(const auto index, oci::parse_index(document));
  std::uint64_t blobs = 0;
  for (const oci::Descriptor& below : index.manifests) {
    IMSY_TRY_ASSIGN(const std::uint64_t more, check_entry(source, below, depth + 1));
    blobs += more;
  }
  return blobs;
}

}  // namespace

Result<std::uint64_t> check_carried(oci::ImageSource& source, const oci::Descriptor& entry) {
  auto blobs = check_entry(source, entry, 0);
  if (blobs) return blobs;
  return blobs.error().with_context("entry " + entry.digest.to_string() + " of the index");
}

}  // namespace imsy::cli::image
