// Foreign blobs: layers that a manifest says to get elsewhere than from its registry.
//
// The addresses are chosen by whoever made the image. So no credential is ever sent or looked up,
// whatever the server asks for; https only, unless plain http is asked for, and never from https to
// http; at most 5 redirects, which lead outwards only (oci/address.h).
// Threads: any; waits for the network.
#pragma once

#include <memory>

#include "oci/http.h"
#include "oci/repository.h"

namespace imsy::oci {

// The blob from the first of descriptor.urls that answers, as ImageSource::open_blob() promises.
// kInvalid: there is none, or none whose scheme is allowed; else the error of the last one. `http`
// must outlive the result.
Result<std::unique_ptr<ByteReader>> open_foreign_blob(HttpClient& http,
                                                      const Descriptor& descriptor,
                                                      bool plain_http);

}  // namespace imsy::oci
