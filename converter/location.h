// Location: what a SRC or DST argument of imsy-convert names.
//
//   registry/repository[:tag|@digest]      a registry, parsed as Docker does
//   oci:DIR[:tag]                          an OCI image layout
//
// Threads: free functions.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "oci/http.h"
#include "oci/repository.h"

namespace imsy::converter {

struct Location {
  enum class Kind { kRegistry, kLayout };
  Kind kind = Kind::kRegistry;
  std::string text;        // as given, for messages
  std::string host;        // registry
  std::string repository;  // registry
  std::string directory;   // layout
  std::string object;      // tag or digest; "" for the only image of a layout

  // kInvalid: neither form, or a transport that is not supported.
  static Result<Location> parse(std::string_view text);
};

enum class Access { kRead, kWrite };

// Opens it. `http` must outlive the result. A layout to write to is created when it is not there.
Result<std::shared_ptr<oci::Repository>> open(const Location& location, Access access,
                                              bool plain_http, oci::HttpClient& http);

// The manifest or index that `location` names in `repository`.
Result<oci::Document> resolve(oci::Repository& repository, const Location& location);

}  // namespace imsy::converter
