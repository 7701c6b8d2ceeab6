#include "cli/image/place.h"

#include <utility>
#include <vector>

#include "converter/platform.h"
#include "converter/proved_image.h"

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

bool is_for(const converter::SourceImage& image, const std::string& platform) {
  if (platform.empty()) return true;
  const auto wanted = converter::parse_platform(platform);
  return wanted && converter::same_platform(image.config.platform, *wanted);
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

Listed introduce(const converter::SourceImage& image, const oci::Descriptor& entry) {
  return {image.document.digest, entry.platform.value_or(image.config.platform),
          converter::original_of(image.manifest)};
}

Error Place::no_image(const std::string& platform) const {
  return Error(Errc::kNotFound,
               text() + ": holds no image" + (platform.empty() ? "" : " for " + platform));
}

Result<std::size_t> Place::visit_entries(const std::string& platform, const Visit& visit) const {
  IMSY_TRY_ASSIGN(const auto entries, oci::parse_index(document_));
  std::size_t visited = 0;
  for (const oci::Descriptor& entry : entries.manifests) {
    auto image = converter::find_image(*source_, entry, platform);
    if (!image) return image.error();
    if (!*image) continue;
    ++visited;
    const std::string name =
        converter::platform_name(entry.platform.value_or((*image)->config.platform));
    const Status done = visit(std::move(**image), entry);
    if (!done) return done.error().with_context(name);
  }
  return visited;
}

Result<std::size_t> Place::visit_all(const std::string& platform, const Visit& visit) const {
  const auto visit_named = [&]() -> Result<std::size_t> {
    if (oci::is_index(document_.media_type)) return visit_entries(platform, visit);
    IMSY_TRY_ASSIGN(auto image, converter::read_image(*source_, document_));
    if (!is_for(image, platform)) return std::size_t{0};
    IMSY_TRY(visit(std::move(image), document_.describe()));
    return std::size_t{1};
  };
  auto visited = visit_named();
  return visited ? visited : visited.error().with_context(text());
}

void Place::begin(const converter::SourceImage& image) const {
  std::uint64_t bytes = 0;
  for (const oci::Descriptor& layer : image.manifest.layers) bytes += layer.size;
  watch_.progress.begin_image(converter::platform_name(image.config.platform), bytes);
}

Status Place::each_image(const std::string& platform, const Visit& visit) const {
  IMSY_TRY_ASSIGN(const std::size_t visited, visit_all(platform, [&](converter::SourceImage image,
                                                                     const oci::Descriptor& entry) {
                    begin(image);
                    return visit(std::move(image), entry);
                  }));
  return visited > 0 ? Status() : Status(no_image(platform));
}

Result<std::vector<Listed>> Place::list() const {
  std::vector<Listed> all;
  IMSY_TRY(visit_all("", [&](const converter::SourceImage& image, const auto& entry) -> Status {
    all.push_back(introduce(image, entry));
    return {};
  }));
  return all;
}

Result<std::vector<oci::Descriptor>> Place::others() const {
  std::vector<oci::Descriptor> others;
  if (!oci::is_index(document_.media_type)) return others;
  IMSY_TRY_ASSIGN(auto index, oci::parse_index(document_));
  for (oci::Descriptor& entry : index.manifests) {
    const auto image = converter::find_image(*source_, entry, "");
    if (!image) return image.error().with_context(text());
    if (!*image) others.push_back(std::move(entry));
  }
  return others;
}

Result<std::optional<converter::SourceImage>> Place::find_image_for(
    const std::string& platform) const {
  std::optional<converter::SourceImage> found;
  std::vector<std::string> names;
  IMSY_TRY(visit_all(platform, [&](converter::SourceImage image, const auto& entry) -> Status {
    names.push_back(converter::platform_name(introduce(image, entry).platform));
    if (!found) found = std::move(image);
    return {};
  }));
  if (names.size() > 1) {
    return Error(Errc::kInvalid, text() + ": holds several images: " + oci::list_names(names) +
                                     "; name one with --platform, or by its digest");
  }
  if (found) begin(*found);
  return found;
}

Result<converter::SourceImage> Place::image_for(const std::string& platform) const {
  IMSY_TRY_ASSIGN(auto found, find_image_for(platform));
  if (!found) return no_image(platform);
  return std::move(*found);
}

Result<converter::SourceImage> Place::image_with(const Digest& manifest) const {
  const auto read = [&]() -> Result<converter::SourceImage> {
    if (manifest == document_.digest) return converter::read_image(*source_, document_);
    IMSY_TRY_ASSIGN(auto document, source_->get_manifest(manifest.to_string()));
    return converter::read_image(*source_, std::move(document));
  };
  auto image = read();
  if (!image) return image.error().with_context(text());
  begin(*image);
  return image;
}

}  // namespace imsy::cli::image
