#include "oci/foreign_blob.h"

#include "oci/blob_stream.h"

namespace imsy::oci {
namespace {

Result<std::unique_ptr<ByteReader>> open_at(HttpClient& http, const std::string& address,
                                            const Descriptor& descriptor, bool plain_http) {
  IMSY_TRY_ASSIGN(const Url url, parse_url(address));
  if (url.scheme != "https" && !plain_http) {
    return Error(Errc::kInvalid, url.shown() + ": foreign layers are fetched over https only");
  }
  const auto caller = Caller::create_anonymous(http, url);
  return open_blob_stream(caller, url.text, url.shown(), descriptor);
}

}  // namespace

Result<std::unique_ptr<ByteReader>> open_foreign_blob(HttpClient& http,
                                                      const Descriptor& descriptor,
                                                      bool plain_http) {
  Result<std::unique_ptr<ByteReader>> opened =
      Error(Errc::kInvalid, "a foreign layer that the source does not have and without an address");
  for (const std::string& address : descriptor.urls) {
    opened = open_at(http, address, descriptor, plain_http);
    if (opened) break;
  }
  return opened;
}

}  // namespace imsy::oci
