// Rebuild: what the store does at its start when the last process did not close it, or when its
// index is gone. Internal to cas.
//
// Threads: before anybody else has the store. Waits for the disk.
#pragma once

#include "cas/image_file.h"
#include "cas/index.h"
#include "cas/layout.h"

namespace imsy::cas {

// What a manifest file may be at most: the manifest's own limit and some room.
inline constexpr std::uint64_t kImageFileLimit = (std::uint64_t{2} << 30) + (64u << 10);

// An image read back from manifests/, checked and validated. kNotFound, kCorrupt.
struct StoredImage {
  std::string anchor_text;
  std::string trust_domain;
  std::shared_ptr<const cdc::Manifest> manifest;
};
Result<StoredImage> read_image(const Layout& layout, const Digest& manifest);

// Fills an index that is not built from manifests/, objects/ and partial/. Images come back with
// their owners; all objects will be hashed before they are used. Cut off, it is done again at the
// next start. One log line, none in a new store.
Status rebuild_index(const Layout& layout, Index& index, const Index::Opened& opened);

// Makes an index that a crash left agree with the files.
Status adopt_files(const Layout& layout, Index& index);

// Removes manifests that no image of the index names: those of calls that a crash cut off.
Status sweep_manifests(const Layout& layout, const std::vector<Index::ImageRow>& images);

}  // namespace imsy::cas
