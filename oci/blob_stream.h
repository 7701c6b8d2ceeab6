// A registry's blob as a stream: fetched ahead by a few MiB, resumed where it broke, verified.
// Internal to oci.
#pragma once

#include <memory>
#include <string>

#include "oci/call.h"
#include "oci/repository.h"

namespace imsy::oci {

// Starts the download and waits for its first answer, so that a missing blob is reported here
// (kNotFound). The reader then does what Repository::open_blob() promises; one that is not read
// keeps a connection busy. `name` is for messages.
Result<std::unique_ptr<ByteReader>> open_blob_stream(const std::shared_ptr<Caller>& caller,
                                                     const std::string& url,
                                                     const std::string& name,
                                                     const Descriptor& descriptor);

}  // namespace imsy::oci
