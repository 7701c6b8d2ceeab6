// Location: what a SRC or DST argument of imsy-convert, or a REF of imsy, names.
//
//   registry/repository[:tag|@digest]      a registry, parsed as Docker does
//   oci:DIR[:tag]                          an OCI image layout
//   oci-archive:FILE[:tag]                 an OCI image layout in a tar file
//   docker-archive:FILE[:reference]        what `docker save` writes and `docker load` reads
//   tar:FILE                               a root filesystem; only to read
//   dir:PATH                               a root filesystem; only to read
//
// FILE may be "-", the standard input, to read from.
// Threads: free functions.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "oci/http.h"
#include "oci/repository.h"

namespace imsy::converter {

// One of the kinds above. Internal to location.cc.
struct Transport;

struct Location {
  const Transport* transport = nullptr;
  std::string text;        // as given, for messages
  std::string host;        // of a registry
  std::string repository;  // of a registry
  std::string path;        // of all others: a file or a directory
  std::string object;      // tag or digest; "" for the only image of a place

  // kInvalid: none of these forms.
  static Result<Location> parse(std::string_view text);

  // kInvalid, with what can be written to, for a location that can only be read.
  Status check_writable() const;
};

// `given`, or when it is empty where temporary files go by default ($TMPDIR, /tmp). kNotFound,
// kInvalid: that is no directory.
Result<std::filesystem::path> temporary_directory(const std::string& given);

// What opening needs besides the location.
struct OpenOptions {
  oci::HttpClient& http;            // must outlive what is opened
  bool plain_http = false;          // to registries
  std::filesystem::path temporary;  // directory for what cannot be read or written at once
  // Read for root filesystems only: the one that they are for; none: this machine. kInvalid, when
  // such a location is opened: several, or another system than Linux. Images tell themselves, and
  // whoever reads an index chooses from it.
  std::vector<oci::Platform> platforms;
};

Result<std::shared_ptr<oci::ImageSource>> open_source(const Location& location,
                                                      const OpenOptions& options);

// For a location that is writable. A layout is created when it is not there.
Result<std::shared_ptr<oci::ImageTarget>> open_target(const Location& location,
                                                      const OpenOptions& options);

}  // namespace imsy::converter
