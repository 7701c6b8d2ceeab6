#include "cli/image/pairing.h"

#include <algorithm>
#include <set>
#include <string>

#include "converter/platform.h"

namespace imsy::cli::image {

Result<Digest> find_original(const std::vector<Listed>& originals, const Listed& converted) {
  std::vector<Digest> found;
  for (const Listed& original : originals) {
    if (!converter::same_platform(original.platform, converted.platform)) continue;
    if (original.manifest == converted.original) return original.manifest;
    found.push_back(original.manifest);
  }
  const std::string platform = converter::platform_name(converted.platform);
  if (found.empty()) return Error(Errc::kNotFound, "has no image for " + platform);
  if (found.size() == 1) return found.front();
  return Error(Errc::kInvalid, "has several images for " + platform + ", but not " +
                                   converted.original.to_string() + ", which " +
                                   converted.manifest.to_string() +
                                   " says it was made from; name one by its digest");
}

Status check_complete(const std::vector<Listed>& originals, const std::vector<Listed>& converted) {
  std::set<Digest> paired;
  for (const Listed& image : converted) {
    IMSY_TRY_ASSIGN(const Digest original, find_original(originals, image));
    paired.insert(original);
  }
  std::vector<std::string> missing;
  for (const Listed& original : originals) {
    const bool here = std::any_of(converted.begin(), converted.end(), [&](const Listed& image) {
      return converter::same_platform(image.platform, original.platform);
    });
    if (here && paired.contains(original.manifest)) continue;
    missing.push_back(converter::platform_name(original.platform) + " (" +
                      original.manifest.to_string() + ")");
  }
  if (missing.empty()) return {};
  return Error(Errc::kNotFound, "has images of which none was made: " + oci::list_names(missing));
}

}  // namespace imsy::cli::image
