#include "converter/base_images.h"

#include <algorithm>
#include <utility>

#include "converter/proved_image.h"

namespace imsy::converter {

Status BaseImages::add(oci::ImageSource& source, const std::string& object) {
  IMSY_TRY_ASSIGN(auto document, source.get_manifest(object));
  if (!oci::is_index(document.media_type)) return add_image(source, std::move(document));
  IMSY_TRY_ASSIGN(const auto index, oci::parse_index(document));
  bool found = false;
  for (const auto& entry : index.manifests) {
    if (!is_image_for(entry, "")) continue;
    IMSY_TRY_ASSIGN(auto manifest, source.get_manifest(entry.digest.to_string()));
    auto added = add_image(source, std::move(manifest));
    if (!added) return added.error().with_context(platform_name(*entry.platform));
    found = true;
  }
  if (!found) return Error(Errc::kInvalid, "the index holds no image");
  return {};
}

Status BaseImages::add_image(oci::ImageSource& source, oci::Document document) {
  IMSY_TRY_ASSIGN(auto image, read_image(source, std::move(document)));
  IMSY_TRY_ASSIGN(const auto proved, open_converted(source, std::move(image)));
  const cdc::Objects& objects = proved.manifest->objects();
  for (std::uint32_t i = 0; i < objects.total_chunks(); ++i) {
    chunks_.insert(objects.chunk(i).digest);
  }
  manifests_.push_back(proved.manifest->digest());
  return {};
}

std::vector<Digest> BaseImages::manifests() const {
  auto sorted = manifests_;
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  return sorted;
}

}  // namespace imsy::converter
