#include "converter/base_images.h"

#include <utility>

namespace imsy::converter {

Status for_each_converted(oci::ImageSource& source, const std::string& object,
                          const std::function<Status(const ProvedImage& image)>& visit) {
  const auto open = [&](SourceImage image) -> Status {
    IMSY_TRY_ASSIGN(const auto proved, open_converted(source, std::move(image)));
    return visit(proved);
  };
  IMSY_TRY_ASSIGN(auto document, source.get_manifest(object));
  if (!oci::is_index(document.media_type)) {
    IMSY_TRY_ASSIGN(auto image, read_image(source, std::move(document)));
    return open(std::move(image));
  }
  IMSY_TRY_ASSIGN(const auto index, oci::parse_index(document));
  bool found = false;
  for (const auto& entry : index.manifests) {
    IMSY_TRY_ASSIGN(auto image, find_image(source, entry, ""));
    if (!image) continue;
    const std::string platform = platform_name(image->config.platform);
    if (auto opened = open(std::move(*image)); !opened) {
      return opened.error().with_context(platform);
    }
    found = true;
  }
  if (!found) return Error(Errc::kInvalid, "the index holds no image");
  return {};
}

Status BaseImages::add(const std::shared_ptr<oci::ImageSource>& source, const std::string& object) {
  return for_each_converted(*source, object, [&](const ProvedImage& image) -> Status {
    const cdc::Objects& objects = image.manifest->objects();
    for (std::uint32_t i = 0; i < objects.total_chunks(); ++i) {
      chunks_.insert(objects.chunk(i).digest);
    }
    frames_.add(source, image);
    return {};
  });
}

}  // namespace imsy::converter
