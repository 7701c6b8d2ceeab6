#include "oci/described.h"

#include <string>

namespace imsy::oci {

Status check_described(const Document& document, const Descriptor& entry) {
  const std::string what = "manifest " + document.digest.to_string() + ": ";
  if (document.bytes.size() != entry.size) {
    return Error(Errc::kCorrupt, what + "has " + std::to_string(document.bytes.size()) +
                                     " bytes, but the index that lists it says size " +
                                     std::to_string(entry.size));
  }
  if (document.media_type == entry.media_type) return {};
  return Error(Errc::kCorrupt, what + "is of media type " + document.media_type +
                                   ", but the index that lists it says " + entry.media_type);
}

}  // namespace imsy::oci
