#include "oci/repository.h"

namespace imsy::oci {

Result<std::string> Repository::get_blob(const Descriptor& descriptor, std::uint64_t limit) {
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

}  // namespace imsy::oci
