// LayoutReader: reading an OCI image layout, wherever its files lie.
//
// Source: OCI image-spec v1.1.0, image-layout.md. Tags are annotations of index.json.
// Threads: as of its files.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "oci/file_set.h"
#include "oci/repository.h"

namespace imsy::oci {

// What layouts are made of, for those who write them.
namespace layout_file {
inline constexpr std::string_view kMarker = "oci-layout";
inline constexpr std::string_view kIndex = "index.json";
inline constexpr std::string_view kBlobs = "blobs/sha256";
inline constexpr std::string_view kVersion = "1.0.0";
inline constexpr std::string_view kRefName = "org.opencontainers.image.ref.name";
std::string blob_path(const Digest& digest);  // below the layout
std::string marker();                         // the content of kMarker
}  // namespace layout_file

class LayoutReader : public ImageSource {
 public:
  // `name` is for messages.
  LayoutReader(std::string name, std::unique_ptr<const FileSet> files);

  // Whether this is a layout that can be read. kNotFound: it is none.
  Status check() const;

  std::string name() const override { return name_; }
  Result<Document> get_manifest(const std::string& object) override;
  Result<std::unique_ptr<ByteReader>> open_blob(const Descriptor& descriptor) override;
  Result<Bytes> read_part(const Descriptor& blob, std::uint64_t offset,
                          std::uint64_t length) override;

  // index.json, as it is.
  Result<Document> index() const;
  // The descriptors in it, in order.
  Result<std::vector<Descriptor>> entries() const;
  // What `tag` names, or with tag "" the only entry that is no referrer. kNotFound; kInvalid when
  // several are named so: the message lists the tags.
  Result<Descriptor> find(const std::string& tag) const;

 private:
  Result<FileSet::File> open_file(const Descriptor& blob, const std::string& what) const;

  const std::string name_;
  const std::unique_ptr<const FileSet> files_;
};

}  // namespace imsy::oci
