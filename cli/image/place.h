// Place: where a command's argument says that an image is, opened for reading.
//
// Each image that is handed out begins anew in the progress, and what is read of blobs moves it.
//
// Threads: belongs to one thread. Everything waits for the network or the disk; a stop request ends
//   that with kCancelled.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "converter/location.h"
#include "converter/progress.h"
#include "converter/source_image.h"

namespace imsy::cli::image {

// What watches over everything that is read. Outlives the places.
struct Watch {
  const std::stop_token& stop;
  converter::Progress& progress;
};

// `blob`, read under the watch.
std::unique_ptr<ByteReader> watched(std::unique_ptr<ByteReader> blob, const Watch& watch);

// An image of a place, as its index and its manifest introduce it.
struct Listed {
  Digest manifest;
  oci::Platform platform;  // of the index's entry, or else of the configuration
  Digest original;         // that it says it was made from; zero: it does not say
};
Listed introduce(const converter::SourceImage& image, const oci::Descriptor& entry);

class Place {
 public:
  // `text`: as converter/location.h says. Gets what it names. Errors name it.
  static Result<Place> open(const std::string& text, const converter::OpenOptions& options,
                            const Watch& watch);

  // As given, for messages.
  const std::string& text() const { return location_.text; }
  // Lives as long as this object.
  oci::ImageSource& source() const { return *source_; }
  // What `text` names: an image manifest or an index.
  const oci::Document& document() const { return document_; }

  // `entry`: of the index. An image that is named itself gets one with its platform.
  using Visit = std::function<Status(converter::SourceImage image, const oci::Descriptor& entry)>;
  // Visits the image that is named, or each one of an index, in order; only that for `platform`
  // unless it is "". kNotFound when there is none. Errors name the platform, where there are
  // several, and the place.
  Status each_image(const std::string& platform, const Visit& visit) const;

  // What each_image("") would visit, in order.
  Result<std::vector<Listed>> list() const;
  // The other entries of an index: attestations, images for other systems, and so on.
  Result<std::vector<oci::Descriptor>> others() const;

  // The image that is named; of an index that for `platform`, which may be "" when it has just one.
  // Nothing when there is none; kInvalid, with the platforms that there are: which one is meant?
  Result<std::optional<converter::SourceImage>> find_image_for(const std::string& platform) const;
  // The same, and kNotFound when there is none.
  Result<converter::SourceImage> image_for(const std::string& platform) const;
  // The image with this manifest.
  Result<converter::SourceImage> image_with(const Digest& manifest) const;

 private:
  Place(converter::Location location, const Watch& watch, std::shared_ptr<oci::ImageSource> source,
        oci::Document document)
      : location_(std::move(location)),
        watch_(watch),
        source_(std::move(source)),
        document_(std::move(document)) {}
  void begin(const converter::SourceImage& image) const;
  Error no_image(const std::string& platform) const;
  // Both say how many were visited.
  Result<std::size_t> visit_all(const std::string& platform, const Visit& visit) const;
  Result<std::size_t> visit_entries(const std::string& platform, const Visit& visit) const;

  converter::Location location_;
  Watch watch_;
  std::shared_ptr<oci::ImageSource> source_;
  oci::Document document_;
};

}  // namespace imsy::cli::image
