#include "oci/repository.h"

#include <algorithm>

#include "common/log.h"

namespace imsy::oci {

Result<std::string> ImageSource::get_blob(const Descriptor& descriptor, std::uint64_t limit) {
  if (descriptor.size > limit) {
    return Error(Errc::kInvalid, "blob " + descriptor.digest.to_string() + " has " +
                                     std::to_string(descriptor.size) + " bytes, the limit is " +
                                     std::to_string(limit));
  }
  IMSY_TRY_ASSIGN(const auto reader, open_blob(descriptor));
  std::string blob;
  Bytes buffer(64u << 10);
  for (;;) {
    IMSY_TRY_ASSIGN(const std::size_t got, reader->read(buffer));
    if (got == 0) return blob;
    blob += as_text(ByteSpan(buffer).first(got));
    if (blob.size() > limit) return Error(Errc::kInvalid, "a blob is larger than it claims");
  }
}

Result<Bytes> ImageSource::read_part(const Descriptor& /*blob*/, std::uint64_t /*offset*/,
                                     std::uint64_t /*length*/) {
  return Error(Errc::kInvalid, name() + ": blobs can be read as a whole only");
}

Result<Arrival> ImageTarget::copy_blob(ImageSource& from, const Descriptor& blob) {
  IMSY_TRY_ASSIGN(const auto reader, from.open_blob(blob));
  IMSY_TRY_ASSIGN(const auto writer, create_blob());
  return write_blob(*reader, *writer, blob.digest);
}

Status ImageTarget::add_referrer(const Digest& /*subject*/, const Descriptor& /*referrer*/) {
  return Error(Errc::kFailedPrecondition, name() + ": has no place for referrers");
}

Result<Arrival> write_blob(ByteReader& reader, BlobWriter& writer, const Digest& digest) {
  Bytes buffer(1u << 20);
  for (;;) {
    IMSY_TRY_ASSIGN(const std::size_t got, reader.read(buffer));
    if (got == 0) return writer.commit(digest);
    IMSY_TRY(writer.write(ByteSpan(buffer).first(got)));
  }
}

std::string list_names(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 10;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) {
    text += (i == 0 ? "" : ", ") + log::printable(names[i]);
  }
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text;
}

}  // namespace imsy::oci
