// Layout: an OCI image layout directory as a Repository.
//
// Source: OCI image-spec v1.1.0, image-layout.md. Blobs and index.json are written atomically
// (temporary file, rename); tags live in "org.opencontainers.image.ref.name" annotations of
// index.json, whose change is serialised by a lock on the directory.
#pragma once

#include <filesystem>
#include <memory>

#include "oci/repository.h"

namespace imsy::oci {

class Layout : public Repository {
 public:
  // Opens an existing layout; kNotFound or kInvalid when `dir` is none.
  static Result<std::unique_ptr<Layout>> open(const std::filesystem::path& dir);
  // Opens it, or makes an empty one in a directory that is empty or absent.
  static Result<std::unique_ptr<Layout>> open_or_create(const std::filesystem::path& dir);

  // The descriptors in index.json, in order.
  virtual Result<std::vector<Descriptor>> entries() = 0;
  // What `tag` names, or with tag "" the only entry. kNotFound; kInvalid when "" is ambiguous.
  virtual Result<Descriptor> find(const std::string& tag) = 0;
};

}  // namespace imsy::oci
