#include "cas/rebuild.h"

#include <sys/stat.h>

#include <unordered_set>

#include "common/log.h"

namespace imsy::cas {
namespace {

// The object's file, wherever it is.
Result<Layout::ObjectFile> find_file(const Layout& layout, const cdc::ObjectId& id) {
  auto file = layout.look_at(Place::kObjects, id);
  if (file || file.error().code() != Errc::kNotFound) return file;
  return layout.look_at(Place::kPartial, id);
}

// Puts the places of the image's chunks into the index, for those objects whose files are there.
Status add_chunks(const Layout& layout, Index& index, const StoredImage& image) {
  const cdc::Objects& objects = image.manifest->objects();
  for (std::uint32_t i = 0; i < objects.count(); ++i) {
    if (objects.chunk_count(i) < 2) continue;
    const auto file = find_file(layout, objects.id(i));
    if (!file && file.error().code() == Errc::kNotFound) continue;
    if (!file) return file.error();
    const Index::ObjectRow row{objects.id(i), image.manifest->tree().object_size(i),
                               domain_of_file(file->is_public)};
    for (const cdc::Chunk& chunk : objects.chunks_of(i)) {
      index.add_chunk(chunk.digest, row, chunk.object_offset);
    }
  }
  return {};
}

// One folder after the other: memory does not grow with the store. Returns how many there are.
Result<std::size_t> adopt_objects(const Layout& layout, Index& index) {
  std::size_t count = 0;
  for (unsigned folder = 0; folder < Layout::kFolders; ++folder) {
    std::vector<Layout::ObjectFile> files;
    IMSY_TRY(layout.each_in_folder(Place::kObjects, folder, [&](const Layout::ObjectFile& file) {
      if (S_ISREG(file.mode)) files.push_back(file);
    }));
    IMSY_TRY(index.adopt(folder, files));
    count += files.size();
  }
  return count;
}

// Removes partial objects of which nobody knows whose they are: no image has them, or they were new
// when the last process ended.
Status remove_stray_parts(const Layout& layout, Index& index) {
  return layout.each_object(Place::kPartial, [&](const Layout::ObjectFile& file) {
    if (index.standing_of(file.id).trust_domain) return;
    ignore(layout.remove_object(Place::kPartial, file.id), "it is found again at the next start");
  });
}

}  // namespace

Result<StoredImage> read_image(const Layout& layout, const Digest& manifest) {
  const auto read = [&]() -> Result<StoredImage> {
    IMSY_TRY_ASSIGN(const Bytes bytes, layout.read_manifest(manifest, kImageFileLimit));
    IMSY_TRY_ASSIGN(const ImageFile file, read_image_file(bytes));
    IMSY_TRY_ASSIGN(const cdc::Anchor anchor, cdc::Anchor::parse(file.anchor_text));
    if (anchor.manifest != manifest) {
      return Error(Errc::kCorrupt, "the file is that of another image");
    }
    StoredImage image{file.anchor_text, file.trust_domain, nullptr};
    IMSY_TRY_ASSIGN(image.manifest, cdc::Manifest::read(file.manifest, anchor));
    return image;
  };
  auto image = read();
  if (!image) return image.error().with_context("image " + manifest.to_string());
  return image;
}

Status rebuild_index(const Layout& layout, Index& index, const Index::Opened& opened) {
  IMSY_TRY_ASSIGN(const auto manifests, layout.manifests());
  IMSY_TRY_ASSIGN(const std::size_t complete, adopt_objects(layout, index));
  std::size_t partial = 0;
  IMSY_TRY(layout.each_object(Place::kPartial, [&](const Layout::ObjectFile&) { ++partial; }));
  if (manifests.empty() && complete == 0 && partial == 0) return index.finish_building();
  std::size_t lost = 0;
  for (const Digest& manifest : manifests) {
    auto image = read_image(layout, manifest);
    // A disk that fails once must not cost an image.
    if (!image && image.error().sys_errno() != 0) image = read_image(layout, manifest);
    // Out of descriptors or memory: the next start finds it.
    if (!image && image.error().code() == Errc::kUnavailable) return image.error();
    if (!image) {
      ++lost;
      log::warn("store {}: {}", layout.root().string(), image.error().message());
      continue;
    }
    IMSY_TRY(
        index.add_image({manifest, image->anchor_text, image->trust_domain}, *image->manifest));
    IMSY_TRY(add_chunks(layout, index, *image));
    IMSY_TRY(index.flush());
  }
  IMSY_TRY(remove_stray_parts(layout, index));
  IMSY_TRY(index.finish_building());
  log::warn(
      "store {}: the index was rebuilt ({}{}): {} images, {} objects, {} partial objects, "
      "{} images lost",
      layout.root().string(), opened.reason,
      opened.set_aside.empty() ? "" : "; the old one is kept as " + opened.set_aside,
      manifests.size() - lost, complete, partial, lost);
  return {};
}

Status adopt_files(const Layout& layout, Index& index) {
  IMSY_TRY(adopt_objects(layout, index));
  IMSY_TRY(remove_stray_parts(layout, index));
  return layout.each_object(Place::kPartial, [&](const Layout::ObjectFile& file) {
    if (layout.look_at(Place::kObjects, file.id)) {
      ignore(layout.remove_object(Place::kPartial, file.id), "it is found again at the next start");
    }
  });
}

Status sweep_manifests(const Layout& layout, const std::vector<Index::ImageRow>& images) {
  std::unordered_set<Digest> known;
  for (const auto& image : images) known.insert(image.manifest);
  IMSY_TRY_ASSIGN(const auto manifests, layout.manifests());
  for (const Digest& manifest : manifests) {
    if (!known.contains(manifest)) IMSY_TRY(layout.remove_manifest(manifest));
  }
  return {};
}

}  // namespace imsy::cas
