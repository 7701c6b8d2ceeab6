// OCI archives: an OCI image layout in a tar file.
//
// Source: OCI image-spec v1.1.0, image-layout.md; skopeo, podman, buildkit and containerd write and
// read such files.
// Threads: a source or target belongs to one thread.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "oci/repository.h"

namespace imsy::oci {

// Opens `file` ("-" is the standard input) to read images by tag. `temporary` is the directory for
// what oci/archive.h has to keep, and errors are as there.
Result<std::unique_ptr<ImageSource>> open_oci_archive(const std::filesystem::path& file,
                                                      const std::filesystem::path& temporary);

// An archive that is being written.
class ArchiveTarget : public ImageTarget {
 public:
  // Another file, beside the layout's own.
  virtual Status add_file(const std::string& path, ByteSpan content) = 0;
};

// A new archive, which replaces `file` in one step when it is finished; a killed process leaves
// nothing. Blobs wait in unnamed files in `temporary` until their digests are known. The same calls
// make the same bytes. `annotations` go to what a tag names in index.json, beside the tag. Messages
// call the archive by `scheme` and its path.
Result<std::unique_ptr<ArchiveTarget>> create_oci_archive(
    const std::filesystem::path& file, const std::filesystem::path& temporary,
    const std::map<std::string, std::string>& annotations = {},
    std::string_view scheme = "oci-archive:");

}  // namespace imsy::oci
