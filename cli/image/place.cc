#include "cli/image/place.h"

#include <optional>
#include <utility>
#include <vector>

#include "converter/platform.h"

namespace imsy::cli::image {
namespace {

Error interrupted() {
  return Error(Errc::kCancelled, "interrupted");
}

class WatchedReader : public ByteReader {
 public:
  WatchedReader(std::unique_ptr<ByteReader> input, const Watch& watch)
      : input_(std::move(input)), watch_(watch) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override {
    if (watch_.stop.stop_requested()) return interrupted();
    IMSY_TRY_ASSIGN(const std::size_t got, input_->read(buffer));
    watch_.progress.add_read(got);
    return got;
  }

 private:
  const std::unique_ptr<ByteReader> input_;
  const Watch watch_;
};

// Another source until a stop is requested.
class WatchedSource : public oci::ImageSource {
 public:
  WatchedSource(std::shared_ptr<oci::ImageSource> source, const Watch& watch)
      : source_(std::move(source)), watch_(watch) {}

  std::string name() const override { return source_->name(); }
  Result<oci::Document> get_manifest(const std::string& object) override {
    if (watch_.stop.stop_requested()) return interrupted();
    return source_->get_manifest(object);
  }
  Result<std::unique_ptr<ByteReader>> open_blob(const oci::Descriptor& descriptor) override {
    IMSY_TRY_ASSIGN(auto input, source_->open_blob(descriptor));
    return watched(std::move(input), watch_);
  }
  Result<Bytes> read_part(const oci::Descriptor& blob, std::uint64_t offset,
                          std::uint64_t length) override {
    if (watch_.stop.stop_requested()) return interrupted();
    return source_->read_part(blob, offset, length);
  }

 private:
  const std::shared_ptr<oci::ImageSource> source_;
  const Watch watch_;
};

// An image that is named itself must be for the platform that was asked for.
Status check_platform(const converter::SourceImage& image, const std::string& platform) {
  if (platform.empty()) return {};
  IMSY_TRY_ASSIGN(const auto wanted, converter::parse_platform(platform));
  if (converter::same_platform(image.config.platform, wanted)) return {};
  return Error(Errc::kNotFound, "is an image for " +
                                    converter::platform_name(image.config.platform) + ", not for " +
                                    platform);
}

}  // namespace

std::unique_ptr<ByteReader> watched(std::unique_ptr<ByteReader> blob, const Watch& watch) {
  return std::make_unique<WatchedReader>(std::move(blob), watch);
}

Result<Place> Place::open(const std::string& text, const converter::OpenOptions& options,
                          const Watch& watch) {
  IMSY_TRY_ASSIGN(auto location, converter::Location::parse(text));
  IMSY_TRY_ASSIGN(auto source, converter::open_source(location, options));
  auto watched = std::make_shared<WatchedSource>(std::move(source), watch);
  auto document = watched->get_manifest(location.object);
  if (!document) return document.error().with_context(text);
  return Place(std::move(location), watch, std::move(watched), std::move(*document));
}

Status Place::visit_entries(const std::string& platform, const Visit& visit) const {
  IMSY_TRY_ASSIGN(const auto entries, oci::parse_index(document_));
  bool any = false;
  for (const oci::Descriptor& entry : entries.manifests) {
    auto image = converter::find_image(*source_, entry, platform);
    if (!image) return image.error();
    if (!*image) continue;
    any = true;
    oci::Descriptor found = entry;
    if (!found.platform) found.platform = (*image)->config.platform;
    const std::string name = converter::platform_name(*found.platform);
    const Status visited = visit(std::move(**image), found);
    if (!visited) return visited.error().with_context(name);
  }
  if (any) return {};
  return Error(Errc::kNotFound,
               "the index holds no image" + (platform.empty() ? "" : " for " + platform));
}

Status Place::visit_all(const std::string& platform, const Visit& visit) const {
  const auto visit_named = [&]() -> Status {
    if (oci::is_index(document_.media_type)) return visit_entries(platform, visit);
    IMSY_TRY_ASSIGN(auto image, converter::read_image(*source_, document_));
    IMSY_TRY(check_platform(image, platform));
    oci::Descriptor entry = document_.describe();
    entry.platform = image.config.platform;
    return visit(std::move(image), entry);
  };
  const Status visited = visit_named();
  return visited ? visited : visited.error().with_context(text());
}

void Place::begin(const converter::SourceImage& image) const {
  std::uint64_t bytes = 0;
  for (const oci::Descriptor& layer : image.manifest.layers) bytes += layer.size;
  watch_.progress.begin_image(converter::platform_name(image.config.platform), bytes);
}

Status Place::each_image(const std::string& platform, const Visit& visit) const {
  return visit_all(platform, [&](converter::SourceImage image, const oci::Descriptor& entry) {
    begin(image);
    return visit(std::move(image), entry);
  });
}

Result<std::vector<oci::Platform>> Place::platforms() const {
  std::vector<oci::Platform> all;
  IMSY_TRY(visit_all("", [&](const auto&, const oci::Descriptor& entry) -> Status {
    all.push_back(*entry.platform);
    return {};
  }));
  return all;
}

Result<converter::SourceImage> Place::image_for(const std::string& platform) const {
  std::optional<converter::SourceImage> found;
  std::vector<std::string> names;
  IMSY_TRY(visit_all(platform, [&](converter::SourceImage image, const auto&) -> Status {
    names.push_back(converter::platform_name(image.config.platform));
    if (!found) found = std::move(image);
    return {};
  }));
  if (names.size() > 1) {
    return Error(Errc::kInvalid, text() + ": holds several images: " + oci::list_names(names) +
                                     "; name one with --platform");
  }
  begin(*found);
  return std::move(*found);
}

}  // namespace imsy::cli::image
